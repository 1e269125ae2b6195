//! Scripts that drive a browser, and what they need of their test.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::service::Service;
use crate::support::tools;

const CHROMIUM: &str = "/usr/bin/chromium";

#[derive(Clone, Debug)]
pub struct Script {
    path: PathBuf,
    variables: Vec<(String, String)>,
}

/// A script, if there is what runs it.
pub fn script(name: &str) -> Option<Script> {
    let is_node = Command::new("node").arg("--version").output().is_ok_and(|output| output.status.success());
    let is_there = is_node && Path::new(CHROMIUM).exists() && modules().join("playwright-core").exists();
    if !is_there {
        assert!(
            std::env::var_os("SEKALI_TEST_ALL").is_none(),
            "Chromium and what drives it are not installed: make tools"
        );
        eprintln!("NOT RUN: Chromium and what drives it are not installed: make tools");
        return None;
    }
    Some(Script { path: page_tests().join(name), variables: Vec::new() })
}

pub fn modules() -> PathBuf {
    tools().join("node/node_modules")
}

fn page_tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page")
}

impl Script {
    pub fn with(&self, variables: &[(&str, &str)]) -> Self {
        let given = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self { variables: self.variables.iter().cloned().chain(given).collect(), ..self.clone() }
    }

    /// Runs it to its end, which must be a good one; what it said.
    pub fn run(&self, service: &Service) -> String {
        self.run_with(&service.url(), |asked| panic!("{asked}?"))
    }

    /// The same for a script that asks its test to do something.
    pub fn run_with(&self, url: &str, mut please: impl FnMut(&str) -> String) -> String {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new("node")
            .arg(&self.path)
            .env("NODE_PATH", modules())
            .env("SEKALI_URL", url)
            .env("SEKALI_DIR", dir.path())
            // What Chromium leaves beside its profile.
            .env("TMPDIR", dir.path())
            .env("HOME", dir.path())
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let complaints = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).map(|_| text)
        });
        let mut said = String::new();
        for line in BufReader::new(stdout).lines() {
            let line = line.unwrap();
            match line.strip_prefix("please: ") {
                Some(asked) => writeln!(stdin, "{}", please(asked)).unwrap(),
                None => said = format!("{said}{line}\n"),
            }
        }
        let status = child.wait().unwrap();
        let complaints = complaints.join().unwrap().unwrap();
        assert!(status.success(), "{}:\n{said}{complaints}", self.path.display());
        said
    }
}

/// A service that asks for tokens, and tokens with these scopes.
pub fn guarded<const MANY: usize>(scopes: [&[&str]; MANY]) -> (Service, [String; MANY]) {
    let mut tokens = Vec::new();
    let service = Service::started(|mut start| {
        let file = start.data_dir.with_file_name("tokens.toml");
        for scopes in scopes {
            let mut command = Command::new(env!("CARGO_BIN_EXE_sekali"));
            command.args(["token", "create", "--name", "page", "--tokens-file"]).arg(&file);
            for scope in scopes {
                command.args(["--allow", scope]);
            }
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            tokens.push(String::from_utf8(output.stdout).unwrap().trim().to_owned());
        }
        start.env.push(("SEKALI_TOKENS_FILE".into(), file.into()));
        start
    });
    (service, tokens.try_into().unwrap())
}
