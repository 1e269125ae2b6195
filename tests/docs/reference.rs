//! The reference has every setting, route, command and exit code, and figures are what the runs
//! say.

use std::process::Command;

use super::root;
use crate::support::service::Service;

#[test]
fn every_setting_is_on_the_page_and_in_the_sample() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_sekali")).args(["config", "--json"]).env_clear().output().unwrap();
    let settings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let page = include_str!("../../docs/reference/configuration.md");
    let sample = include_str!("../../config.example.toml");
    for key in settings.as_object().unwrap().keys() {
        assert!(page.contains(&format!("| `{key}` | ")), "{key} is not on the page");
        assert!(sample.contains(&format!("#{key} = ")), "{key} is not in the sample");
    }
}

#[test]
fn every_route_is_on_the_page_of_http() {
    let service = Service::new();
    let document = service.get("/openapi.json");
    let page = include_str!("../../docs/reference/http.md");
    for path in document["paths"].as_object().unwrap().keys() {
        let is_there =
            page.lines().any(|line| line.starts_with("| `") && line.contains(&format!(" {path}`")));
        assert!(is_there, "{path} is not on the page");
    }
}

#[test]
fn every_command_and_exit_code_is_on_the_page_of_the_command_line() {
    let output = Command::new(env!("CARGO_BIN_EXE_sekali")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let page = include_str!("../../docs/reference/command-line.md");
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let names = commands.lines().take_while(|line| !line.is_empty()).filter_map(|line| {
        let name = line.strip_prefix("  ")?.split(' ').next()?;
        (!name.is_empty() && name != "help").then_some(name)
    });
    for name in names {
        assert!(page.contains(&format!("| `sekali {name}` | ")), "{name} is not on the page");
    }
    let (_, codes) = help.split_once("Exit codes: ").unwrap();
    let words = codes.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty());
    for code in words {
        let is_there = page.lines().any(|line| {
            let codes = line.strip_prefix("| ").and_then(|line| line.split(" |").next()).unwrap_or_default();
            codes.split(", ").any(|listed| listed == code)
        });
        assert!(is_there, "code {code} is not on the page");
    }
}

#[test]
fn tables_of_figures_are_what_the_script_makes_of_the_data() {
    let Ok(output) = Command::new("python3")
        .arg(root().join("benches/tables.py"))
        .arg("--check")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
    else {
        assert!(std::env::var_os("SEKALI_TEST_ALL").is_none(), "python3 is not installed");
        eprintln!("NOT RUN: python3 is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// The variable of a row of `rounds.rs`, and how often each change plays it: by threads, and in a
/// simulation.
fn of_each_change(row: &str) -> Option<(&str, [String; 2])> {
    let (variable, numbers) = row.trim().strip_prefix("(\"")?.strip_suffix("),")?.split_once("\", ")?;
    let (mut rest, mut found) = (numbers, Vec::new());
    while !rest.is_empty() {
        let number;
        (number, rest) = match rest.strip_prefix("threads(") {
            Some(pair) => pair.split_once(')').unwrap(),
            None => rest.split_once(", ").unwrap_or((rest, "")),
        };
        rest = rest.trim_start_matches(", ");
        let (by_threads, simulated) = number.split_once(", ").unwrap_or((number, number));
        found.push([by_threads, simulated].map(|number| number.replace('_', "")));
    }
    Some((variable, found.swap_remove(1)))
}

#[test]
fn every_fault_is_on_the_page_with_the_number_that_each_change_plays() {
    let page = include_str!("../../docs/explanation/reliability.md");
    let rows = include_str!("../support/rounds.rs").lines().filter_map(of_each_change);
    // Of kinds each change plays all there are.
    let rows: Vec<_> = rows.filter(|(_, numbers)| numbers[0] != "u64::MAX").collect();
    assert!(rows.len() > 20);
    for (variable, [by_threads, simulated]) in rows {
        let line = page.lines().find(|line| line.ends_with(&format!("| `{variable}` |")));
        let line = line.unwrap_or_else(|| panic!("{variable} is not on the page"));
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let told = cells[3].split(' ').next().unwrap().replace(',', "");
        let played = if cells[2] == "simulation" { simulated } else { by_threads };
        assert_eq!(told, played, "{line}");
    }
}
