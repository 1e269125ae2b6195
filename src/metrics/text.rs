//! Prometheus' text, as it was rendered, for whoever may see less of it or reads another form.

/// Prometheus' text without the figures whose `label`, a topic or a consumer, is not shown.
pub fn shown(text: &str, label: &str, is_shown: impl Fn(&str) -> bool) -> String {
    let begin = format!("{label}=\"");
    let is_kept = |line: &&str| {
        let Some((_, rest)) = line.split_once(&*begin) else { return true };
        let mut name = String::new();
        let mut chars = rest.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => break,
                '\\' => name.extend(chars.next()),
                c => name.push(c),
            }
        }
        name.is_empty() || is_shown(&name)
    };
    text.split_inclusive('\n').filter(|line| line.starts_with('#') || is_kept(line)).collect()
}

/// Prometheus' text as OpenMetrics, which differs in what a counter is called above its samples,
/// and in its end.
pub fn open_metrics(text: &str) -> String {
    let mut open = String::with_capacity(text.len() + 16);
    let counters: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix("_total counter"))
        .collect();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let described = ["# TYPE ", "# HELP "].into_iter().find_map(|start| {
            let (name, rest) = line.strip_prefix(start)?.split_once(' ')?;
            Some((start, name.strip_suffix("_total").filter(|name| counters.contains(name))?, rest))
        });
        match described {
            Some((start, name, rest)) => open.extend([start, name, " ", rest]),
            None => open.push_str(line),
        }
        open.push('\n');
    }
    open.push_str("# EOF\n");
    open
}
