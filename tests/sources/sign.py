"""Signs deliveries as their senders do: by the sender's own library where it signs, else as the sender documents it. What is
signed by hand is verified by the sender's library, here or in verify.mjs, where there is one.

Each line of stdin is a request: {"preset", "secret", "body", "time", "id", "url"}. `secret` is any text, of which keys are made
where a key is needed. The answer is a line too: {"key": what the secret's file holds, "headers", "body", "query"}.
"""

import base64
import datetime
import hashlib
import hmac
import json
import sys
from urllib.parse import parse_qs

import nacl.signing
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from mailgun.security import SecurityGuard
from paddle_billing.Notifications import PaddleSignature, Secret
from sendgrid.helpers.eventwebhook import EventWebhook
from slack_sdk.signature import SignatureVerifier
from standardwebhooks import Webhook
from stripe import WebhookSignature
from svix.webhooks import Webhook as SvixWebhook
from twilio.request_validator import RequestValidator


def sha256(key, *parts):
    return hmac.new(key.encode(), "".join(parts).encode(), hashlib.sha256)


def seed(secret):
    return hashlib.sha256(secret.encode()).digest()


def standard(webhook, prefix):
    def sign(r):
        key = "whsec_" + base64.b64encode(seed(r["secret"])).decode()
        at = datetime.datetime.fromtimestamp(r["time"], tz=datetime.timezone.utc)
        headers = {
            f"{prefix}-id": r["id"],
            f"{prefix}-timestamp": str(r["time"]),
            f"{prefix}-signature": webhook(key).sign(r["id"], at, r["body"]),
        }
        return key, headers

    return sign


def standard_asymmetric(r):
    key = nacl.signing.SigningKey(seed(r["secret"]))
    signed = key.sign(f"{r['id']}.{r['time']}.{r['body']}".encode())
    headers = {
        "webhook-id": r["id"],
        "webhook-timestamp": str(r["time"]),
        # One of a newer version, which nobody knows yet, and one of the key.
        "webhook-signature": "v9,AAAA v1a," + base64.b64encode(signed.signature).decode(),
    }
    return "whpk_" + base64.b64encode(bytes(key.verify_key)).decode(), headers


def stripe(r):
    return r["secret"], {"Stripe-Signature": WebhookSignature.generate_signature_header(r["body"], r["secret"], r["time"])}


def github(r):
    headers = {"X-Hub-Signature-256": "sha256=" + sha256(r["secret"], r["body"]).hexdigest()}
    return r["secret"], {**headers, "X-GitHub-Event": "push", "X-GitHub-Delivery": r["id"]}


def meta(r):
    return r["secret"], {"X-Hub-Signature-256": "sha256=" + sha256(r["secret"], r["body"]).hexdigest()}


def gitlab(r):
    return r["secret"], {"X-Gitlab-Token": r["secret"], "X-Gitlab-Event": "Push Hook", "Idempotency-Key": r["id"]}


def shopify(r):
    signature = base64.b64encode(sha256(r["secret"], r["body"]).digest()).decode()
    headers = {"X-Shopify-Hmac-Sha256": signature, "X-Shopify-Topic": "orders/create", "X-Shopify-Event-Id": r["id"]}
    return r["secret"], {**headers, "X-Shopify-Triggered-At": "2026-11-22T10:00:00.123456789Z"}


def slack(r):
    signature = SignatureVerifier(r["secret"]).generate_signature(timestamp=str(r["time"]), body=r["body"])
    return r["secret"], {"X-Slack-Signature": signature, "X-Slack-Request-Timestamp": str(r["time"])}


def paddle(r):
    digest = sha256(r["secret"], str(r["time"]), ":", r["body"]).hexdigest()
    header = f"ts={r['time']};h1={digest}"
    # The library verifies only.
    assert PaddleSignature().verify(header, r["body"], Secret(r["secret"]))
    return r["secret"], {"Paddle-Signature": header}


def sendgrid(r):
    key = ec.derive_private_key(int.from_bytes(seed(r["secret"]), "big") >> 1, ec.SECP256R1())
    signature = key.sign((str(r["time"]) + r["body"]).encode(), ec.ECDSA(hashes.SHA256()))
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    public, signature = base64.b64encode(public).decode(), base64.b64encode(signature).decode()
    # The library verifies only.
    assert EventWebhook(public).verify_signature(r["body"], signature, str(r["time"]))
    prefix = "X-Twilio-Email-Event-Webhook"
    return public, {f"{prefix}-Signature": signature, f"{prefix}-Timestamp": str(r["time"])}


def twilio(r):
    validator, url = RequestValidator(r["secret"]), r["url"]
    if r["body"].startswith("{"):
        r["query"] = "bodySHA256=" + hashlib.sha256(r["body"].encode()).hexdigest()
        signature = validator.compute_signature(f"{url}?{r['query']}", {})
        assert validator.validate(f"{url}?{r['query']}", r["body"], signature)
    else:
        fields = {name: values[0] for name, values in parse_qs(r["body"], keep_blank_values=True).items()}
        # An id of an even length is signed as with a shared key.
        signature = validator.compute_signature(url, fields, "HMAC_SHA256" if len(r["id"]) % 2 == 0 else None)
        r["type"] = "application/x-www-form-urlencoded; charset=UTF-8"
    return r["secret"], {"X-Twilio-Signature": signature, "I-Twilio-Idempotency-Token": r["id"]}


def mailgun(r):
    body, token = json.loads(r["body"]), hashlib.sha256(r["id"].encode()).hexdigest()[:50]
    signature = sha256(r["secret"], str(r["time"]), token).hexdigest()
    # The library verifies only; an age of zero is any.
    assert SecurityGuard.verify_webhook(r["secret"], token, str(r["time"]), signature, max_age_seconds=0)
    body = {"signature": {"token": token, "timestamp": str(r["time"]), "signature": signature}, **body}
    r["body"] = json.dumps(body)
    return r["secret"], {}


def linear(r):
    r["body"] = json.dumps({**json.loads(r["body"]), "webhookTimestamp": r["time"] * 1000})
    headers = {"Linear-Signature": sha256(r["secret"], r["body"]).hexdigest()}
    return r["secret"], {**headers, "Linear-Delivery": r["id"], "Linear-Event": "Issue"}


def bearer(r):
    return r["secret"], {"Authorization": f"Bearer {r['secret']}"}


def basic(r):
    return f"user:{r['secret']}", {"Authorization": "Basic " + base64.b64encode(f"user:{r['secret']}".encode()).decode()}


def generic(r):
    digest = hmac.new(r["secret"].encode(), f"{r['time']}/{r['body']}".encode(), hashlib.sha1).hexdigest()
    return r["secret"], {"X-Signature": f"k=1; d={digest}", "X-Time": str(r["time"])}


SENDERS = {
    "standard-webhooks": standard(Webhook, "webhook"),
    "standard-webhooks-v1a": standard_asymmetric,
    "svix": standard(SvixWebhook, "svix"),
    "stripe": stripe,
    "github": github,
    "gitlab": gitlab,
    "shopify": shopify,
    "slack": slack,
    "paddle": paddle,
    "sendgrid": sendgrid,
    "twilio": twilio,
    "mailgun": mailgun,
    "linear": linear,
    "meta": meta,
    "bearer": bearer,
    "basic": basic,
    "generic": generic,
}

for line in sys.stdin:
    request = {"query": "", "type": "application/json", **json.loads(line)}
    key, headers = SENDERS[request["preset"]](request)
    headers = {"Content-Type": request["type"], **headers}
    print(json.dumps({"key": key, "headers": headers, "body": request["body"], "query": request["query"]}), flush=True)
