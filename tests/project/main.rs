//! The project itself: its layers, its pages, and what is packaged.

#![allow(clippy::unwrap_used, reason = "a test says with a panic what went wrong")]

mod layers;
mod packaging;
mod readme;
