//! The package for Debian, made of the program that is tested, then installed, removed and purged
//! below a folder in place of `/`. dpkg runs its scripts for that folder alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::image::copy_libraries;
use super::{installed, is_root, root, succeed};
use crate::support::tools;

/// The package, made in `folder`.
fn package(folder: &Path) -> Option<PathBuf> {
    installed(tools().join("cargo/bin/cargo-deb"))?;
    let (tree, packed) = (folder.join("tree"), folder.join("tree/target/packed"));
    std::fs::create_dir_all(&packed).unwrap();
    for entry in std::fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name();
        if name != "target" {
            std::os::unix::fs::symlink(root().join(&name), tree.join(&name)).unwrap();
        }
    }
    let program = packed.join("sekali");
    // Without its symbols, which take long to compress.
    succeed(Command::new("strip").arg("-o").arg(&program).arg(env!("CARGO_BIN_EXE_sekali")));
    let packed = format!("PACKED={}", packed.display());
    succeed(Command::new("make").args(["--no-print-directory", "pages", &packed]).current_dir(root()));
    let mut deb = Command::new(tools().join("cargo/bin/cargo-deb"));
    let made = succeed(
        deb.arg("deb")
            .args(["--offline", "--locked", "--no-build", "--no-strip", "--fast", "--output"])
            .arg(folder)
            .current_dir(&tree),
    );
    Some(made.trim().into())
}

/// A folder in place of `/`.
struct System(PathBuf);

impl System {
    fn new(folder: &Path) -> Self {
        let state = folder.join("var/lib/dpkg");
        for name in ["info", "updates"] {
            std::fs::create_dir_all(state.join(name)).unwrap();
        }
        std::fs::create_dir(folder.join("etc")).unwrap();
        for name in ["status", "available"] {
            std::fs::write(state.join(name), "").unwrap();
        }
        Self(folder.to_owned())
    }

    fn dpkg(&self, arguments: &[&str]) {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg("--root").arg(&self.0).args([
            "--force-script-chrootless",
            "--force-depends",
            "--log=/dev/null",
        ]);
        succeed(dpkg.args(arguments));
    }

    fn has(&self, path: &str) -> bool {
        self.0.join(path).symlink_metadata().is_ok()
    }
}

/// Debian's own checks of a package.
fn lint(package: &Path) {
    let Some(mut linter) = installed("lintian") else { return };
    // Changes are told in CHANGELOG.md alone, and the project has no address of its own.
    let accepted = "no-changelog,wrong-name-for-upstream-changelog,malformed-contact";
    linter.args(["--allow-root", "--fail-on", "error,warning", "--suppress-tags", accepted]).arg(package);
    // It leaves files behind.
    succeed(linter.env("TMPDIR", package.parent().unwrap()));
}

#[test]
fn the_package_brings_the_service_and_takes_all_but_data_away() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(package) = package(folder.path()) else { return };
    lint(&package);
    let system = System::new(&folder.path().join("system"));
    system.dpkg(&["--install", package.to_str().unwrap()]);
    let brought = [
        "usr/bin/sekali",
        "usr/lib/systemd/system/sekali.service",
        "usr/share/man/man1/sekali.1.gz",
        "usr/share/man/man1/sekali-serve.1.gz",
        "usr/share/bash-completion/completions/sekali",
        "usr/share/zsh/vendor-completions/_sekali",
        "usr/share/fish/vendor_completions.d/sekali.fish",
        "etc/sekali/config.toml",
        "etc/systemd/system/multi-user.target.wants/sekali.service",
    ];
    for path in brought {
        assert!(system.has(path), "{path}");
    }
    let users = std::fs::read_to_string(system.0.join("etc/passwd")).unwrap();
    assert!(
        users.lines().any(|line| line.starts_with("sekali:") && line.contains(":/var/lib/sekali:")),
        "{users}"
    );

    copy_libraries(&system.0);
    let run = |arguments: &[&str]| {
        succeed(Command::new("chroot").arg(&system.0).arg("/usr/bin/sekali").args(arguments))
    };
    assert_eq!(run(&["--version"]).trim(), concat!("sekali ", env!("CARGO_PKG_VERSION")));
    let settings: serde_json::Value =
        serde_json::from_str(&run(&["config", "--json", "--config", "/etc/sekali/config.toml"])).unwrap();
    assert_eq!(settings["data_dir"]["value"], "/var/lib/sekali");

    std::fs::create_dir_all(system.0.join("var/lib/sekali/gen-000001")).unwrap();
    std::fs::write(system.0.join("etc/sekali/config.toml"), "data_dir = \"/var/lib/sekali\"\nworkers = 1\n")
        .unwrap();
    system.dpkg(&["--remove", "sekali"]);
    assert!(!system.has("usr/bin/sekali"));
    assert!(system.has("etc/sekali/config.toml"), "what a user has written stays until it is purged");
    system.dpkg(&["--purge", "sekali"]);
    for path in brought {
        assert!(!system.has(path), "{path}");
    }
    assert!(system.has("var/lib/sekali/gen-000001"), "events are no part of the package");
}
