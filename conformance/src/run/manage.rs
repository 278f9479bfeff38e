//! Calls of the management API: users, permissions, vhosts, limits and whatever else a case needs beside AMQP.

use super::*;

impl Runner<'_> {
    /// Calls it; what is put is deleted again when the case ends.
    pub(super) fn manage(&mut self, method: &str, path: &str, body: &str) -> Result<()> {
        // Everything that was sent before has had its effects: the API goes another way than frames.
        self.settle();
        let mut expand =
            |text: &str| String::from_utf8_lossy(&self.names.expand(text.as_bytes())).into_owned();
        let (path, body) = (expand(path), expand(body));
        if method == "PUT" {
            self.put.push(path.clone());
        }
        self.transport.manage(method, &path, &body).map_err(|reason| format!("{method} {path}: {reason}"))
    }

    /// Deletes what was put, the last first. What is gone already, or can't be deleted, is left.
    pub(super) fn take_back(&mut self) {
        for path in std::mem::take(&mut self.put).into_iter().rev() {
            let _ = self.transport.manage("DELETE", &path, "");
        }
    }
}
