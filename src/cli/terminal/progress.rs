//! Progress on a terminal's stderr.

use std::fmt::Write;

use indicatif::{ProgressState, ProgressStyle};

/// A style by its template, which may have `{rate}`: whole steps a second.
pub(crate) fn style(template: &str) -> ProgressStyle {
    let rate = |state: &ProgressState, out: &mut dyn Write| {
        // A bar that can't be drawn is no reason to fail.
        let _ = write!(out, "{:.0}/s", state.per_sec());
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("rate", rate)
}
