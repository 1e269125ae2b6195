//! Links between pages lead to a file and a heading that are there, and the contents name every
//! page.

use super::{pages, root};

/// The page without its blocks of code.
fn prose(page: &str) -> String {
    let mut in_block = false;
    let mut lines = Vec::new();
    for line in page.lines() {
        in_block ^= line.starts_with("```");
        if !in_block && !line.starts_with("```") {
            lines.push(line);
        }
    }
    lines.join("\n")
}

/// What a link to each heading ends with, as GitHub makes it: lower case, hyphens for blanks, no
/// other punctuation.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let text = line.trim_start_matches('#').trim().to_lowercase();
            let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// What the links and images of a page lead to.
fn links(page: &str) -> Vec<&str> {
    let behind = page.split("](").skip(1);
    behind.filter_map(|text| text.split_once(')').map(|(link, _)| link)).collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut all = pages("docs");
    all.append(&mut pages("examples"));
    all.append(&mut pages("deploy"));
    all.append(&mut pages(".github"));
    all.extend(
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"].map(String::from),
    );
    let mut followed = 0;
    for name in all {
        let page = prose(&std::fs::read_to_string(root().join(&name)).unwrap());
        for link in links(&page).into_iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let beside = root().join(&name);
            let target = if file.is_empty() { beside } else { beside.parent().unwrap().join(file) };
            assert!(target.exists(), "{name}: there is no {link}");
            if !anchor.is_empty() {
                let headings = anchors(&prose(&std::fs::read_to_string(target).unwrap()));
                assert!(headings.iter().any(|heading| heading == anchor), "{name}: no heading for {link}");
            }
            followed += 1;
        }
    }
    assert!(followed > 100, "{followed} links");
}

#[test]
fn the_contents_name_every_page() {
    for folder in ["docs", "docs/decisions"] {
        let contents = std::fs::read_to_string(root().join(folder).join("README.md")).unwrap();
        let linked = links(&contents);
        for page in pages(folder).iter().filter_map(|page| page.strip_prefix(&format!("{folder}/"))) {
            let is_elsewhere = folder == "docs" && page.starts_with("decisions/0");
            assert!(
                page == "README.md" || is_elsewhere || linked.contains(&page),
                "{folder} has no link to {page}"
            );
        }
    }
}
