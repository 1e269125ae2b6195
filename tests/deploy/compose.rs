//! The Compose files, read by Compose itself.

use serde_json::{Value, json};

use super::support::tools;
use super::{installed, json, root, settings};

/// What Compose makes of these files.
fn config(files: &[&str]) -> Option<Value> {
    let mut command = installed(tools().join("deploy/bin/docker-compose"))?;
    for file in files {
        command.arg("--file").arg(root().join("deploy").join(file));
    }
    Some(json(command.args(["config", "--format", "json"])))
}

#[test]
fn the_composed_service_has_no_privilege_and_is_reached_from_this_machine_alone() {
    let Some(config) = config(&["compose.yaml"]) else { return };
    let service = &config["services"]["sekali"];
    assert_eq!(service["read_only"], true);
    assert_eq!(service["cap_drop"], json!(["ALL"]));
    assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]));
    for limit in ["mem_limit", "pids_limit"] {
        assert!(!service[limit].is_null(), "{limit}");
    }
    let ports = service["ports"].as_array().unwrap();
    assert!(ports.iter().all(|port| port["host_ip"] == "127.0.0.1"), "{ports:?}");
    assert_eq!(service["healthcheck"]["test"], json!(["CMD", "/usr/local/bin/sekali", "health"]));
    let volumes = service["volumes"].as_array().unwrap();
    assert_eq!(volumes.iter().map(|volume| &volume["target"]).collect::<Vec<_>>(), ["/data"]);
    let variables = service["environment"].as_object().unwrap();
    let known = settings(variables.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())));
    assert_eq!(known["allowed_host"]["value"], json!(["sekali"]));
    assert_eq!(variables.len(), 1, "nothing else is set");
}

#[test]
fn a_composed_service_that_is_reached_from_everywhere_has_a_certificate_and_a_token() {
    let Some(config) = config(&["compose.yaml", "compose.tls.yaml"]) else { return };
    let service = &config["services"]["sekali"];
    let ports = service["ports"].as_array().unwrap();
    assert!(ports.len() == 1 && ports[0]["host_ip"].is_null(), "{ports:?}");
    let secrets = service["secrets"].as_array().unwrap();
    for (variable, secret) in
        [("TLS_CERT", "tls_cert"), ("TLS_KEY", "tls_key"), ("BOOTSTRAP_TOKEN_FILE", "admin_token")]
    {
        let path = format!("/run/secrets/{secret}");
        assert_eq!(service["environment"][format!("SEKALI_{variable}")], path);
        assert!(secrets.iter().any(|entry| entry["source"] == secret), "{secret}");
        assert!(config["secrets"][secret]["file"].is_string(), "{secret}");
    }
    let health = service["healthcheck"]["test"].as_array().unwrap();
    assert_eq!(
        health.last(),
        Some(&service["environment"]["SEKALI_OPS_LISTEN"]),
        "health is asked without TLS"
    );
    assert_eq!(service["read_only"], true, "the rest is as it was");
}
