//! The reference says of every preset what the table does.

use sekali::webhook::{PRESETS, Preset};

/// A cell with templates in it, or a dash.
fn cell(text: Option<&str>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| format!("`{text}`"))
}

fn proof(preset: &Preset) -> String {
    let schemes: Vec<_> = preset.schemes.iter().map(|scheme| scheme.algorithm.name()).collect();
    let shown = preset.schemes.iter().map(|scheme| match scheme.prefix {
        "" => preset.signature.to_owned(),
        prefix => format!("{prefix}… in {}", preset.signature),
    });
    let shown = shown.chain(preset.second_signature.map(str::to_owned));
    let mut shown: Vec<_> = shown.map(|text| format!("`{text}`")).collect();
    shown.dedup();
    let signed = match preset.signature {
        "{header.Authorization}" | "{header.X-Gitlab-Token}" => None,
        _ => Some(preset.signed),
    };
    let tolerance = preset.tolerance_seconds.map_or_else(|| "-".to_owned(), |seconds| seconds.to_string());
    format!(
        "| `{}` | {} | {} | {} | {} | {} | {tolerance} |",
        preset.name,
        schemes.join(", "),
        shown.join(", "),
        preset.encoding.name(),
        cell(signed),
        cell(preset.signed_at),
    )
}

fn mapping(preset: &Preset) -> String {
    let list = if preset.is_list { ", of each element" } else { "" };
    // Where a delivery has nothing for the first one.
    let either = |own: Option<&str>, other: Option<&str>| match other {
        Some(other) if own != Some(other) => format!("{}, else `{other}`", cell(own)),
        _ => cell(own),
    };
    format!(
        "| `{}` | {}{list} | {} | {} |",
        preset.name,
        either(preset.topic, preset.other.map(|other| other.topic)),
        either(preset.event_id, preset.other.map(|other| other.event_id)),
        cell(preset.timestamp),
    )
}

#[test]
fn the_reference_has_the_rows_of_the_table() {
    let page = include_str!("../../docs/reference/sources.md");
    for row in [proof, mapping] {
        let rows: Vec<_> = PRESETS.iter().map(row).collect();
        let missing = rows.iter().any(|row| !page.lines().any(|line| line == row));
        assert!(!missing, "the page must have:\n{}", rows.join("\n"));
    }
}
