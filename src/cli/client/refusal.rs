//! What a refusal says, fit for a sentence.

use serde_json::Value;

/// Longest text of a refusal that is shown.
const CHARS_MAX: usize = 500;

/// The sentence of a refusal, of FastAPI's shape or any.
pub(crate) fn sentence(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = match &value["detail"] {
        Value::String(text) => text.clone(),
        Value::Array(faults) => faults.iter().filter_map(fault).collect::<Vec<_>>().join("; "),
        _ => String::from_utf8_lossy(body).into_owned(),
    };
    let short: String = text.chars().filter(|c| !c.is_control()).take(CHARS_MAX).collect();
    if short.trim().is_empty() { "no reason given".to_owned() } else { short }
}

/// One fault of FastAPI's shape: where it is, and what.
pub(crate) fn fault(fault: &Value) -> Option<String> {
    let message = fault["msg"].as_str()?;
    match fault["loc"].as_array().and_then(|loc| loc.last()) {
        Some(Value::String(field)) if field != "body" => Some(format!("{field}: {message}")),
        _ => Some(message.to_owned()),
    }
}
