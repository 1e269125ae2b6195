//! The layers and their faults, without a process.

use super::*;

fn none(_: &str) -> Option<OsString> {
    None
}

fn resolve_file(text: &str) -> Result<Config, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    Config::resolve(Layer::default(), none, Some(file.path()))
}

fn fault(text: &str) -> String {
    resolve_file(text).unwrap_err().to_string()
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, b"workers = 1\nconnections_max = 2\ntopics_max = 3").unwrap();
    let variable = |name: &str| match name {
        "SEKALI_WORKERS" => Some("4".into()),
        "SEKALI_CONNECTIONS_MAX" => Some("5".into()),
        "SEKALI_LOG" => Some("".into()),
        _ => None,
    };
    let flags = Layer { workers: Some(6), ..Layer::default() };
    let config = Config::resolve(flags, variable, Some(file.path())).unwrap();
    assert_eq!((config.workers, config.origin("workers")), (6, Origin::Flag("--workers".into())));
    let origin = Origin::Environment("SEKALI_CONNECTIONS_MAX".into());
    assert_eq!((config.connections_max, config.origin("connections_max")), (5, origin));
    assert_eq!((config.topics_max, config.origin("topics_max")), (3, Origin::File(file.path().into())));
    assert_eq!((config.log.as_str(), config.origin("log")), ("info", Origin::Default));
}

#[test]
fn the_defaults_are_within_their_bounds() {
    Config::resolve(Layer::default(), none, None).unwrap();
}

#[test]
fn an_unknown_key_is_refused_by_name_and_line() {
    let said = fault("workers = 1\nworkerz = 2\n");
    assert!(said.contains("line 2, `workerz = 2`: unknown field `workerz`"), "{said}");
}

#[test]
fn a_value_of_the_wrong_type_is_refused_with_its_line() {
    for text in [
        "workers = 'many'",
        "listen = 'nowhere'",
        "listen = 70000",
        "body_bytes_max = '16XB'",
        "generation_bytes = -1",
        "log_format = 'xml'",
        "workers = -1",
        "workers",
    ] {
        let said = fault(text);
        assert!(said.contains(&format!("line 1, `{text}`: ")) && !said.contains('\n'), "{said}");
    }
}

#[test]
fn a_value_in_the_environment_that_does_not_parse_is_refused_by_name() {
    for (name, text) in [
        ("SEKALI_WORKERS", "x"),
        ("SEKALI_LISTEN", "nowhere"),
        ("SEKALI_BODY_BYTES_MAX", "16XB"),
        ("SEKALI_MUST_EXIST", "1"),
        ("SEKALI_LOG_FORMAT", "x"),
    ] {
        let variable = |asked: &str| (asked == name).then(|| text.into());
        let said = Config::resolve(Layer::default(), variable, None).unwrap_err().to_string();
        assert!(said.starts_with(&format!("{name} is \"{text}\": ")), "{said}");
    }
}

#[test]
fn a_value_out_of_its_bounds_is_refused_with_the_bounds() {
    for (text, bounds) in [
        ("workers = 0", "between 1 and 1024"),
        ("generation_events = 0", "between 1 and 100000000"),
        ("generation_bytes = 4_000_000_000", "between 65536 and 3221225472"),
        ("topics_max = 0", "between 1 and"),
        ("body_bytes_max = 1_000_000_000", "between 1024 and 268435456"),
        ("batch_events_max = 0", "between 1 and"),
        ("connections_max = 0", "between 1 and"),
        (
            "inflight_bytes_max = 1_000_000",
            "must hold 4 bodies of body_bytes_max, which is 16777216 (default)",
        ),
        ("data_dir = ''", "data_dir is empty"),
        ("log = 'sekali=loud'", "log is \"sekali=loud\""),
        ("log = 'info,inof'", "\"inof\" is no level"),
    ] {
        let said = fault(text);
        assert!(said.contains(bounds) && said.contains("(file "), "{said}");
    }
}

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    layer: Layer,
}

#[test]
fn lists_are_repeated_flags_variables_with_commas_and_arrays() {
    let hosts =
        |config: &Config| config.allowed_host.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let file = "allowed_host = [\"sekali\", \".Example.org\"]\ncors_origin = [\"https://a.example:443/\"]";
    let config = resolve_file(file).unwrap();
    assert_eq!(hosts(&config), "sekali .example.org");
    assert_eq!(config.cors_origin[0].to_string(), "https://a.example");
    let variable = |name: &str| (name == "SEKALI_ALLOWED_HOST").then(|| " sekali , *,".into());
    assert_eq!(hosts(&Config::resolve(Layer::default(), variable, None).unwrap()), "sekali *");
    let flags = ["sekali", "--allowed-host", "sekali", "--allowed-host", "192.0.2.1"];
    let Flags { layer } = clap::Parser::parse_from(flags);
    assert_eq!(hosts(&Config::resolve(layer, variable, None).unwrap()), "sekali 192.0.2.1");
    assert!(fault("allowed_host = [\"sekali:8080\"]").contains("leave the port out"));
    assert!(fault("cors_origin = [\"null\"]").contains("use *"));
    let variable = |name: &str| (name == "SEKALI_CORS_ORIGIN").then(|| "https://a.example/path".into());
    let said = Config::resolve(Layer::default(), variable, None).unwrap_err().to_string();
    assert!(said.starts_with("SEKALI_CORS_ORIGIN is \"https://a.example/path\": use scheme, host"), "{said}");
}

#[test]
fn a_file_that_is_missing_is_a_fault() {
    let said =
        Config::resolve(Layer::default(), none, Some(Path::new("/nowhere.toml"))).unwrap_err().to_string();
    assert!(said.starts_with("cannot read the configuration /nowhere.toml: "), "{said}");
}

/// Each `# key = value` of the sample, without its comment sign.
fn sample() -> String {
    let text = include_str!("../../config.example.toml");
    let setting = |line: &&str| {
        line.strip_prefix('#').is_some_and(|rest| rest.contains(" = ") && !rest.starts_with(' '))
    };
    text.lines().filter(setting).map(|line| format!("{}\n", &line[1..])).collect()
}

#[test]
fn the_sample_file_without_comment_signs_is_the_defaults() {
    let config = resolve_file(&sample()).unwrap();
    for (given, default) in config.entries().into_iter().zip(Config::default().entries()) {
        // How many cores there are is the machine's affair: the sample names the key only.
        if given.key == "workers" {
            continue;
        }
        assert_eq!(given.value, default.value, "{}", given.key);
        assert!(matches!(given.origin, Origin::File(_)), "{} is missing from the sample", given.key);
    }
    assert!(include_str!("../../config.example.toml").contains("#workers = "));
}

#[test]
fn the_sample_file_as_it_is_sets_nothing() {
    let config = resolve_file(include_str!("../../config.example.toml")).unwrap();
    assert!(config.entries().iter().all(|entry| entry.origin == Origin::Default));
}

#[test]
fn addresses_and_sizes_are_taken_as_people_write_them_in_every_layer() {
    let file = resolve_file("listen = ':9000'\nbody_bytes_max = '2MiB'\ngeneration_bytes = 1048576").unwrap();
    assert_eq!(file.listen.to_string(), "127.0.0.1:9000");
    assert_eq!((file.body_bytes_max, file.generation_bytes), (2 << 20, 1 << 20));
    assert_eq!(resolve_file("listen = 9001").unwrap().listen.to_string(), "127.0.0.1:9001");
    let variable = |name: &str| match name {
        "SEKALI_LISTEN" => Some("localhost:9002".into()),
        "SEKALI_INFLIGHT_BYTES_MAX" => Some("128MB".into()),
        _ => None,
    };
    let config = Config::resolve(Layer::default(), variable, None).unwrap();
    assert_eq!(
        (config.listen.to_string(), config.inflight_bytes_max),
        ("127.0.0.1:9002".into(), 128_000_000)
    );
    assert!(fault("body_bytes_max = '1TiB'").contains("between 1024 and 268435456"));
}

#[test]
fn groups_are_shown_without_passwords_and_exclude_a_store() {
    let groups = "[[group]]\nslots = '0-20,40-63'\nstore = 'postgres://me:s3cret@one/events'\n\
                  [[group]]\nslots = '21-39'\nstore = 'postgres://me@two/events'\n";
    let config = resolve_file(groups).unwrap();
    let entry = config.entries().pop().unwrap();
    assert_eq!(
        (entry.key, value_text(&entry.value).as_str()),
        ("group", "0-20,40-63 postgres://me@one:5432/events,21-39 postgres://me@two:5432/events")
    );
    assert!(!config.is_local() && config.groups().len() == 2);
    let with_store = format!("store = 'postgres://me@one/events'\n{groups}");
    assert!(fault(&with_store).contains("both say where the store is"));
    for (right, wrong, words) in [
        ("21-39", "21-38", "no [[group]] has the slots 39: give each of the slots 0-63 to one of them"),
        ("21-39", "20-40", "more than one [[group]] has the slots 20,40"),
        ("21-39", "39-21", "each range upwards"),
        (
            "postgres://me@two",
            "mysql://me@two",
            "store of [[group]] number 2: it must begin with postgres://",
        ),
        ("'21-39'", "21", "line 5, `slots`"),
        ("store = 'postgres://me@two", "stores = 'postgres://me@two", "line 6, `stores`"),
    ] {
        let said = fault(&groups.replace(right, wrong));
        assert!(said.contains(words) && !said.contains("s3cret"), "{said}");
    }
}

#[test]
fn a_line_that_may_hold_the_password_of_a_database_is_not_shown() {
    for line in [
        "store = \"postgres://u:hunter2@h/db",
        "stor = \"postgres://u:hunter2@h/db\"",
        "store = \"host=h password=hunter2",
        "listen = [\"postgres://u:hunter2@h/db\"]",
    ] {
        let fault = Layer::from_toml(line).unwrap_err().to_string();
        assert!(!fault.contains("hunter2") && fault.contains("line 1"), "{fault}");
    }
}
