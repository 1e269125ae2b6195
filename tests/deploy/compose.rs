//! The Compose files, read by Compose itself.

use serde_json::{Value, json};

use super::{installed, json, root, settings};
use crate::support::tools;

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
    // Compose prints a limit of zero as one without a value.
    assert_eq!(service["ulimits"]["core"], json!({}));
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

#[test]
fn the_composed_cluster_keeps_its_promise_and_is_reached_from_this_machine_alone() {
    let Some(config) = config(&["compose.cluster.yaml"]) else { return };
    let services = config["services"].as_object().unwrap();
    let named = |prefix: &str| -> Vec<&Value> {
        services.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, service)| service).collect()
    };
    for service in named("etcd").into_iter().chain(named("database")) {
        assert!(service["ports"].is_null(), "only nodes are reached from outside: {service}");
    }
    let nodes = named("sekali");
    assert_eq!((nodes.len(), named("database").len(), named("etcd").len()), (3, 3, 3));
    for node in nodes {
        let ports = node["ports"].as_array().unwrap();
        assert!(ports.len() == 1 && ports[0]["host_ip"] == "127.0.0.1", "{ports:?}");
        assert_eq!((&node["read_only"], &node["cap_drop"]), (&json!(true), &json!(["ALL"])));
        let variables = node["environment"].as_object().unwrap();
        let known = settings(variables.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())));
        let store = known["store"]["value"].as_str().unwrap();
        assert!((1..=3).all(|n| store.contains(&format!("database{n}"))), "{store}");
        assert_eq!(known["store_durability"]["value"], "replicated");
        assert_eq!(known["allowed_host"]["value"], json!(["sekali1", "sekali2", "sekali3"]));
    }
    let patroni = std::fs::read_to_string(root().join("deploy/cluster/patroni.yml")).unwrap();
    for setting in ["synchronous_mode: quorum", "synchronous_mode_strict: true"] {
        assert!(patroni.contains(setting), "without it a commit may wait for nobody: {setting}");
    }
    // Patroni's own check. It also looks for what only the image has, which is not to be complained of.
    let Some(mut check) = installed(tools().join("patroni/bin/patroni")) else { return };
    let output = check
        .args(["--validate-config", "--ignore-listen-port"])
        .arg(root().join("deploy/cluster/patroni.yml"))
        .envs([
            ("PATRONI_NAME", "database1"),
            ("PATRONI_RESTAPI_CONNECT_ADDRESS", "database1:8008"),
            ("PATRONI_POSTGRESQL_CONNECT_ADDRESS", "database1:5432"),
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let is_of_the_image =
        |line: &&str| line.starts_with("postgresql.bin_dir") || line.starts_with("etcd3.hosts");
    let faults: Vec<&str> = said.lines().filter(|line| !is_of_the_image(line)).collect();
    assert!(faults.is_empty() && !said.is_empty(), "{said}");
}
