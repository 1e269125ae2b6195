//! Settings as the environment has them.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use super::address::{Address, OptionalAddress};
use super::durability::Durability;
use super::log_format::LogFormat;
use super::mode::Mode;
use super::size::Size;
use super::store_url::StoreUrl;

/// The variable of a setting.
pub(super) fn name_of(key: &str) -> String {
    format!("SEKALI_{}", key.to_ascii_uppercase())
}

/// A value as the environment has it.
pub(super) trait Variable: Sized {
    /// The value, or what is wrong with it.
    fn read(text: &str) -> Result<Self, String>;
}

macro_rules! variables {
    ($($kind:ty)+) => { $(
        impl Variable for $kind {
            fn read(text: &str) -> Result<Self, String> {
                text.parse().map_err(|fault: <Self as FromStr>::Err| fault.to_string())
            }
        }
    )+ };
}

variables!(Address OptionalAddress Mode Size PathBuf bool usize u32 u64 LogFormat Durability StoreUrl String);

/// A list has commas between its entries.
impl<T: FromStr<Err: Display>> Variable for Vec<T> {
    fn read(text: &str) -> Result<Self, String> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(|entry| entry.parse().map_err(|fault: T::Err| fault.to_string())).collect()
    }
}

/// The value of a variable, if it is set.
///
/// # Errors
/// What is wrong with it, with its name.
pub(super) fn parsed<T: Variable>(
    name: &str,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<T>, String> {
    let Some(raw) = variable(name).filter(|raw| !raw.is_empty()) else { return Ok(None) };
    let text = raw.to_str().ok_or_else(|| format!("{name} is not UTF-8"))?;
    match T::read(text) {
        Ok(value) => Ok(Some(value)),
        Err(fault) => Err(format!("{name} is {text:?}: {fault}")),
    }
}
