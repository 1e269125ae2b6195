//! Prometheus' text, as it was rendered, for whoever may see less of it or reads another form.

/// Prometheus' text without the figures of topics that are not shown.
pub fn of_topics(text: &str, is_shown: impl Fn(&str) -> bool) -> String {
    let is_kept = |line: &&str| {
        let Some((_, label)) = line.split_once("topic=\"") else { return true };
        let mut topic = String::new();
        let mut chars = label.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => break,
                '\\' => topic.extend(chars.next()),
                c => topic.push(c),
            }
        }
        topic.is_empty() || is_shown(&topic)
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
