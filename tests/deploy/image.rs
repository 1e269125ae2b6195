//! The last stage of the image, built by buildah as the Dockerfile says and run. The stage that
//! compiles is replaced by the program that is tested, and the base image by the libraries that the
//! program needs, so it takes no registry and shows that nothing else is needed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{installed, is_root, json, root, succeed};
use crate::support::tools;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sekali");

#[test]
fn a_linter_finds_no_fault_in_the_dockerfiles() {
    let Some(mut linter) = installed(tools().join("deploy/bin/hadolint")) else { return };
    succeed(linter.args(["Dockerfile", "deploy/cluster/Dockerfile"].map(|path| root().join(path))));
}

/// Copies the libraries that a program is linked with to where it looks for them below `folder`.
pub(crate) fn copy_libraries(folder: &Path) {
    let said = succeed(Command::new("ldd").arg(PROGRAM));
    let words = said.split_whitespace().filter(|word| word.starts_with('/'));
    for library in words {
        let to = folder.join(&library[1..]);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(library, to).unwrap();
    }
}

/// A store of images that goes with its folder.
struct Images<'a>(&'a Path);

impl Images<'_> {
    fn buildah(&self) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(self.0.join("images")).arg("--runroot").arg(self.0.join("run"));
        command.args(["--storage-driver", "vfs"]);
        command
    }

    /// The image `sekali`.
    fn build(&self) {
        let (base, build) = (self.0.join("base"), self.0.join("build"));
        copy_libraries(&base.join("root"));
        std::fs::write(base.join("Dockerfile"), "FROM scratch\nCOPY root /\n").unwrap();
        for folder in ["build", "data"] {
            std::fs::create_dir_all(build.join(folder)).unwrap();
        }
        std::fs::copy(PROGRAM, build.join("build/sekali")).unwrap();
        let bud = ["bud", "--quiet", "--isolation", "chroot", "--format", "docker"];
        succeed(self.buildah().args(bud).args(["--tag", "base"]).arg(base));
        succeed(
            self.buildah()
                .args(bud)
                .args(["--tag", "sekali", "--build-arg", "RUNTIME_IMAGE=localhost/base"])
                .arg(format!("--build-context=build={}", build.display()))
                .arg(root()),
        );
    }

    fn run(&self, container: &str, program: &[&str]) -> Command {
        let mut command = self.buildah();
        command.args(["run", "--isolation", "chroot", "--env", "SEKALI_LISTEN=127.0.0.1:0", container, "--"]);
        command.args(program);
        command
    }
}

/// A service in a container.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).unwrap();
    }
}

#[test]
fn the_image_runs_the_service_as_nobody_and_needs_nothing_but_its_libraries() {
    if !is_root() || installed("buildah").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let images = Images(folder.path());
    images.build();
    let config = json(images.buildah().args(["inspect", "--type", "image", "sekali"]));
    let config = &config["Docker"]["config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Healthcheck"]["Test"], serde_json::json!(["CMD", "/usr/local/bin/sekali", "health"]));
    assert_eq!(config["Entrypoint"], serde_json::json!(["/usr/local/bin/sekali"]));

    let container = succeed(images.buildah().args(["from", "sekali"]));
    let container = container.trim();
    let said = succeed(&mut images.run(container, &["/usr/local/bin/sekali", "--version"]));
    assert_eq!(said.trim(), concat!("sekali ", env!("CARGO_PKG_VERSION")));
    let service = images.run(container, &["/usr/local/bin/sekali", "serve"]).stderr(Stdio::piped()).spawn();
    let mut service = Running(service.unwrap());
    let mut lines = BufReader::new(service.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    let addr = lines.find_map(|line| {
        let line: Value = serde_json::from_str(&line).ok()?;
        line["addr"].as_str().map(str::to_owned)
    });
    let addr = addr.expect("it says where it listens");
    let health = ["/usr/local/bin/sekali", "health", "--url", &addr];
    succeed(&mut images.run(container, &health));
}
