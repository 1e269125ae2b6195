//! Who asks, and what they may do. Knows no HTTP.
//!
//! ```text
//! token of a request ─> parsed ─> looked up by its id ─> digests compared ─> Caller
//! tokens file ─> TokensFile ─> Authenticator, which exchanges its grants when the file changes
//! ```
//!
//! | file | what it has |
//! |---|---|
//! | `scope` | what a token allows, as text and as the permissions of a caller |
//! | `token` | the secret that a client shows, its text and its digest |
//! | `tokens_file` | what is kept of tokens on disk |
//! | `authenticator` | who a request comes from, and when that ends |
//! | `caller` | what a request may do |
//! | `tickets` | what a page shows once in the place of a token |
//! | `failures` | how long those wait who fail again and again |

pub mod authenticator;
pub mod caller;
pub mod failures;
pub mod scope;
pub mod tickets;
pub mod token;
pub mod tokens_file;

pub use self::caller::{Caller, Permission};

/// The target of log lines about who is let in and who is not, and about what decides it.
pub const AUDIT: &str = "sekali::audit";
