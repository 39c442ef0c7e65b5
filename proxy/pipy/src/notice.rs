//! Notices: what the operator should know, one line each on standard error, in the form of all lines of the log
//! (`2026-01-31 13:05:59.042 [INF] text`). The access log is elsewhere.

use pipy_script::log;

/// Something happened as it should.
pub(crate) fn info(message: &str) {
    log::line("INF", &message.replace(['\n', '\r'], " "));
}

/// Something needs a look.
pub(crate) fn warn(message: &str) {
    log::line("WRN", &message.replace(['\n', '\r'], " "));
}
