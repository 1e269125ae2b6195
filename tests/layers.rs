//! The source held against its map: ARCHITECTURE.md says in which rooms files live and on which
//! floors these are. A file imports from its own room and from lower floors only, no files import
//! each other in a circle, and one file names sled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A row of the table of rooms.
struct Row {
    floor: u32,
    /// Paths below `src`: a file without its ending, or a folder.
    rooms: Vec<String>,
}

/// The table that begins with "| floor | room |" in ARCHITECTURE.md.
fn table() -> Vec<Row> {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let lines = map.lines().skip_while(|line| !line.starts_with("| floor | room |")).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let rooms = cells[2].split('`').skip(1).step_by(2).map(str::to_owned);
        Row { floor: cells[1].parse().unwrap(), rooms: rooms.collect() }
    });
    rows.collect()
}

/// The row of a file of `src`: that of the longest room in whose path it is.
fn row<'t>(table: &'t [Row], file: &str) -> &'t Row {
    let module = file.trim_end_matches(".rs");
    let is_in =
        |room: &str| module == room || module.strip_prefix(room).is_some_and(|rest| rest.starts_with('/'));
    let rooms = table.iter().flat_map(|row| row.rooms.iter().map(move |room| (room, row)));
    let found = rooms.filter(|(room, _)| is_in(room)).max_by_key(|(room, _)| room.len());
    let Some((_, row)) = found else { unreachable!("{file} has no room: give it one in ARCHITECTURE.md") };
    row
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files of `src`, by their paths below it, without comments and without the tests at their
/// ends.
fn sources() -> BTreeMap<String, String> {
    fn find(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                find(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    let (src, mut found) = (root().join("src"), Vec::new());
    find(&src, &mut found);
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
        let code = code.join("\n");
        (name, code.split("#[cfg(test)]\nmod ").next().unwrap().to_owned())
    };
    found.into_iter().map(read).collect()
}

/// Adds all paths that begin at the front of `text` after `before`; `{…}` stands for several.
/// Returns what follows.
fn paths<'a>(mut text: &'a str, before: &[&'a str], found: &mut Vec<Vec<&'a str>>) -> &'a str {
    let mut path = before.to_vec();
    loop {
        text = text.trim_start();
        if let Some(mut inner) = text.strip_prefix('{') {
            while !inner.trim_start().starts_with('}') && !inner.is_empty() {
                inner = paths(inner, &path, found).trim_start().trim_start_matches(',');
            }
            return inner.trim_start().strip_prefix('}').unwrap_or_default();
        }
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        if name.is_empty() {
            // `*`, or what is no path at all.
            found.push(path);
            return rest.get(1..).unwrap_or_default();
        }
        path.push(name);
        match rest.strip_prefix("::") {
            Some(rest) => text = rest,
            None => {
                found.push(path);
                return rest;
            }
        }
    }
}

/// The files whose names a file uses.
fn imports(file: &str, code: &str, sources: &BTreeMap<String, String>) -> BTreeSet<String> {
    let own: Vec<&str> = match file.trim_end_matches(".rs") {
        "lib" | "main" => Vec::new(),
        module => module.split('/').collect(),
    };
    let mut found = Vec::new();
    for word in ["crate", "sekali", "super", "self"] {
        for (at, _) in code.match_indices(&format!("{word}::")) {
            if !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                paths(&code[at..], &[], &mut found);
            }
        }
    }
    for child in code.lines().filter_map(|line| line.split("mod ").nth(1)?.strip_suffix(';')) {
        if code.contains(&format!(" {child}::")) || code.contains(&format!("({child}::")) {
            found.push(vec!["self", child]);
        }
    }
    let target = |path: Vec<&str>| {
        let ups = path.iter().take_while(|name| **name == "super").count();
        let mut module: Vec<&str> = match path[0] {
            "super" => own[..own.len().saturating_sub(ups)].to_vec(),
            "self" => own.clone(),
            _ => Vec::new(),
        };
        module.extend(&path[ups.max(1)..]);
        while !module.is_empty() {
            let file = module.join("/") + ".rs";
            if sources.contains_key(&file) {
                return Some(file);
            }
            module.pop();
        }
        None
    };
    found.into_iter().filter_map(target).filter(|target| target != file).collect()
}

#[test]
fn files_import_from_their_own_room_and_lower_floors_only() {
    let (table, sources) = (table(), sources());
    assert!(sources.len() > 30 && table.len() > 10);
    let mut count = 0;
    for (file, code) in &sources {
        let own = row(&table, file);
        for target in imports(file, code, &sources) {
            let other = row(&table, &target);
            assert!(
                std::ptr::eq(own, other) || other.floor < own.floor,
                "{file} (floor {}) imports from {target} (floor {})",
                own.floor,
                other.floor
            );
            let knows_local = target.starts_with("store/local");
            assert!(
                !knows_local || file.starts_with("store/") || file.starts_with("cli"),
                "{file} knows how events are kept: it imports from {target}"
            );
            count += 1;
        }
    }
    assert!(count > 300, "the imports were read");
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let sources = sources();
    let arrows: BTreeMap<&String, BTreeSet<String>> = sources
        .iter()
        .map(|(file, code)| {
            // A module and the files in its folder are one thing: what a file takes from a module
            // around it is not asked.
            let is_around =
                |target: &String| file.starts_with(&(target.trim_end_matches(".rs").to_owned() + "/"));
            let targets = imports(file, code, &sources).into_iter().filter(|target| !is_around(target));
            (file, targets.collect())
        })
        .collect();
    let leads_to_itself = |file: &String| {
        let (mut reached, mut waiting) = (BTreeSet::new(), vec![file]);
        while let Some(next) = waiting.pop() {
            waiting.extend(arrows[next].iter().filter(|target| reached.insert(*target)));
        }
        reached.contains(file)
    };
    let circles: Vec<_> = arrows.keys().filter(|file| leads_to_itself(file)).collect();
    assert!(circles.is_empty(), "these import each other in circles: {circles:#?}");
}

#[test]
fn one_file_names_sled() {
    let sources = sources();
    let naming: Vec<_> =
        sources.iter().filter(|(_, code)| code.contains("sled::")).map(|(file, _)| file).collect();
    assert_eq!(naming, ["store/local/generation/index/sled_index.rs"]);
}
