"""Renders the Helm chart with Helm's own engine and checks each object against Kubernetes' schemas.

Takes the server that has the engine, the chart and values as JSON; prints the objects as JSON.
"""

import json
import subprocess
import sys

import kubernetes_validate
import yaml


class Helm:
    """Helm as a child process that speaks JSON-RPC, one message a line."""

    def __init__(self, program):
        self.child = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        client = {"name": "sekali-tests", "version": "1"}
        self.ask("initialize", {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": client})
        self.tell({"method": "notifications/initialized"})

    def tell(self, message):
        self.child.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.child.stdin.flush()

    def ask(self, method, params):
        self.tell({"id": 1, "method": method, "params": params})
        answer = json.loads(self.child.stdout.readline())
        if "error" in answer:
            sys.exit(f"{method}: {answer['error']}")
        return answer["result"]

    def call(self, tool, **arguments):
        result = self.ask("tools/call", {"name": tool, "arguments": arguments})
        text = "\n".join(part["text"] for part in result["content"])
        if result.get("isError"):
            sys.exit(f"{tool}: {text}")
        return text

    def close(self):
        self.child.stdin.close()
        self.child.wait(timeout=30)


def main(program, chart, values):
    helm = Helm(program)
    values = json.loads(values)
    print(helm.call("helm_lint", paths=[chart], values=values, strict=True), file=sys.stderr)
    text = helm.call("helm_template", release_name="inbox", namespace="events", chart=chart, values=values)
    helm.close()
    objects = [found for found in yaml.safe_load_all(text) if found]
    for found in objects:
        # What operators define has no schema here.
        if not found["apiVersion"].startswith("monitoring.coreos.com/"):
            kubernetes_validate.validate(found, "1.31", strict=True)
    json.dump(objects, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
