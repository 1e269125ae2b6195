//! Databases that a node refuses to serve, and what it says.

use std::process::{Command, Stdio};

use super::{cluster, node};
use crate::support::process::Start;

/// How a start ends that must not succeed: its code, and what it says.
fn refused(start: &Start) -> (Option<i32>, String) {
    let mut server = start.spawn();
    let said = server.listening().unwrap_err();
    (server.wait().and_then(|status| status.code()), said)
}

#[test]
fn a_database_that_would_break_the_promise_is_refused_with_what_to_set() {
    let Some(cluster) = cluster("") else { return };
    let dir = tempfile::tempdir().unwrap();
    cluster.create("events");
    let mut admin = cluster.client("events");
    let start = node(dir.path(), &cluster.url("events"), "replicated");
    let (code, said) = refused(&start);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("synchronous_standby_names") && said.contains("store-durability local"), "{said}");

    let start = node(dir.path(), &cluster.url("events"), "local");
    admin.batch_execute("ALTER SYSTEM SET full_page_writes = off").unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").unwrap();
    let (code, said) = refused(&start);
    assert!(code == Some(5) && said.contains("full_page_writes = on"), "{said}");
    admin.batch_execute("ALTER SYSTEM RESET full_page_writes").unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").unwrap();

    let mut must_exist = start.clone();
    must_exist.env.push(("SEKALI_MUST_EXIST".into(), "true".into()));
    let (code, said) = refused(&must_exist);
    assert!(code == Some(5) && said.contains("holds no store"), "{said}");

    let (mut server, _) = start.ready().unwrap();
    assert_eq!(server.terminate(), Some(0));
    admin.batch_execute("DELETE FROM sekali_slots WHERE slot = 17").unwrap();
    let (code, said) = refused(&start);
    assert!(code == Some(5) && said.contains("64 slots"), "{said}");
    admin.batch_execute("INSERT INTO sekali_slots (slot) VALUES (17)").unwrap();

    admin.batch_execute("INSERT INTO sekali_schema (version) VALUES (1000)").unwrap();
    let (code, said) = refused(&start);
    assert!(code == Some(5) && said.contains("newer program"), "{said}");

    cluster
        .client("postgres")
        .batch_execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
        .unwrap();
    let (code, said) = refused(&node(dir.path(), &cluster.url("latin"), "local"));
    assert!(code == Some(5) && said.contains("ENCODING 'UTF8'"), "{said}");

    let (code, said) = refused(&node(dir.path(), "postgres://127.0.0.1:1/events", "local"));
    assert!(code == Some(5) && said.contains("can't be reached"), "{said}");
}

#[test]
fn a_password_in_an_argument_is_refused_and_shown_nowhere() {
    let run = |arguments: &[&str], url: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_sekali"))
            .args(arguments)
            .env("SEKALI_STORE", url)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let secret = "postgres://me:s3cret@127.0.0.1:1/events";
    for arguments in [&["serve", "--store", secret][..], &["move", "--from", "data", "--to", secret]] {
        let (code, said) = run(arguments, "");
        let is_told = said.contains("--store-password-file") && !said.contains("s3cret");
        assert!(code == Some(3) && is_told, "{arguments:?}: {code:?} {said}");
    }
    for url in
        ["postgres://me:s3cret@127.0.0.1:1/events", "postgres://me:s3cret@127.0.0.1:1/events?wrong=option"]
    {
        let (code, said) = run(&["serve", "--listen", "127.0.0.1:0"], url);
        assert!(code.is_some_and(|code| code > 0) && !said.contains("s3cret"), "{said}");
        let (_, said) = run(&["config"], url);
        assert!(!said.contains("s3cret"), "{said}");
    }
}
