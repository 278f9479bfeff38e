//! Who may connect and do what: users and their passwords, permissions, logins and their throttling, and connections that have not
//! logged in yet.

mod admission;
pub mod logins;
pub mod newcomers;
pub mod passwords;
pub mod permissions;
pub mod users;
