//! A JSON object with one long list, which is made in steps.
//!
//! An object that is made in several steps has its count after the list: it is not known before.

use std::io::Write;

use crate::http::wire::json::push_number;

/// The object, and how far it is.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// Its members before the list, without the brace.
    before: Vec<u8>,
    name: &'static str,
    /// Whether it says how many entries the list has.
    is_counted: bool,
    has_begun: bool,
    count: usize,
}

impl Object {
    /// One with these members before the list of this name.
    pub(crate) fn new(before: Vec<u8>, name: &'static str, is_counted: bool) -> Self {
        Self { before, name, is_counted, has_begun: false, count: 0 }
    }

    /// Appends what comes before the entries of a step, which has `entries` and may be the last
    /// one.
    pub(crate) fn begin(&self, out: &mut Vec<u8>, entries: usize, is_last: bool) {
        if self.has_begun {
            return;
        }
        out.push(b'{');
        out.extend_from_slice(&self.before);
        if self.is_counted && is_last {
            out.extend_from_slice(b"\"count\":");
            push_number(out, entries as u64);
            out.push(b',');
        }
        // A Vec takes all that is written.
        let _ = write!(out, "\"{}\":[", self.name);
    }

    /// Appends what stands before the entry of this number in its step.
    pub(crate) fn comma(&self, out: &mut Vec<u8>, number: usize) {
        if self.count + number > 0 {
            out.push(b',');
        }
    }

    /// Appends the end of the list, if that is in the last step, which has `entries`.
    pub(crate) fn end(&self, out: &mut Vec<u8>, entries: usize, is_last: bool) {
        if !is_last {
            return;
        }
        out.push(b']');
        if self.is_counted && self.has_begun {
            out.extend_from_slice(b",\"count\":");
            push_number(out, (self.count + entries) as u64);
        }
    }

    /// A step with so many entries was taken.
    pub(crate) fn stepped(&mut self, entries: usize) {
        self.has_begun = true;
        self.count += entries;
    }

    /// Whether a step was taken.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun
    }
}
