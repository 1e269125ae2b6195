// Has the senders' own libraries verify what sign.py signed by hand. Each line of stdin is {"sender", "secret", "headers", "body"},
// the answer true or false.
import { createInterface } from "node:readline";

import { LinearWebhookClient } from "@linear/sdk/webhooks";
import { verify } from "@octokit/webhooks-methods";
import { shopifyApi } from "@shopify/shopify-api";
import "@shopify/shopify-api/adapters/node";

const verifiers = {
  github: ({ secret, headers, body }) => verify(secret, body, headers["X-Hub-Signature-256"]),
  // It throws instead of saying no.
  linear: async ({ secret, headers, body }) =>
    new LinearWebhookClient(secret).verify(Buffer.from(body), headers["Linear-Signature"]),
  shopify: async ({ secret, headers, body }) => {
    const options = { apiKey: "key", apiSecretKey: secret, hostName: "localhost", apiVersion: "2026-01", isEmbeddedApp: false };
    const api = shopifyApi({ ...options, logger: { level: 0, log: () => {} } });
    const shop = { "X-Shopify-Shop-Domain": "shop.myshopify.com", "X-Shopify-Api-Version": "2026-01", "X-Shopify-Webhook-Id": "1" };
    const rawRequest = { method: "POST", url: "/", headers: { ...shop, ...headers } };
    return (await api.webhooks.validate({ rawBody: body, rawRequest, rawResponse: {} })).valid;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const delivery = JSON.parse(line);
  console.log(JSON.stringify(await verifiers[delivery.sender](delivery).catch(() => false)));
}
