//! Secrets and public keys: how they are read from files, and what they prove.
//!
//! | algorithm | the file holds |
//! |---|---|
//! | HMAC | the secret as text; in base64 where the sender decodes it first |
//! | Ed25519 | the public key in hexadecimal, base64 or PEM |
//! | ECDSA P-256 | the public key in base64 (DER) or PEM |
//! | token | the token, or `user:password` |
//!
//! White space around it does not count, nor does a byte order mark.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use base64::Engine;
use ring::digest::{SHA256, digest};
use ring::{hmac, signature};
use subtle::ConstantTimeEq;

use super::parts::{BASE64, unhex};
use crate::limits::SECRET_FILE_BYTES_MAX;

/// What proves that somebody knows a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-1, for senders that have nothing better.
    HmacSha1,
    /// HMAC with SHA-256.
    HmacSha256,
    /// A signature by Ed25519.
    Ed25519,
    /// A signature by ECDSA over P-256 with SHA-256, in DER.
    EcdsaP256,
    /// The secret itself is sent.
    Token,
}

impl Algorithm {
    /// Whether its file holds what nobody else may know.
    pub(super) fn is_secret(self) -> bool {
        !matches!(self, Self::Ed25519 | Self::EcdsaP256)
    }

    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::HmacSha256, Self::HmacSha1, Self::Ed25519, Self::EcdsaP256, Self::Token];

    /// The word for it in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::HmacSha1 => "hmac-sha1",
            Self::HmacSha256 => "hmac-sha256",
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256 => "ecdsa-p256",
            Self::Token => "token",
        }
    }
}

/// One secret or public key; it can't be printed.
pub(super) enum Key {
    Hmac(hmac::Key),
    Public(&'static dyn signature::VerificationAlgorithm, Vec<u8>),
    Token([u8; 32]),
}

/// What stands before the point of a public key in DER (RFC 5480, RFC 8410).
const P256_DER: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const ED25519_DER: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

impl Key {
    /// Makes a key of the text that a file holds, which is without white space around it.
    ///
    /// # Errors
    /// What the file should hold; nothing of what it does.
    pub(super) fn new(algorithm: Algorithm, text: &str, is_base64: bool) -> Result<Self, &'static str> {
        let hmac = |algorithm| match is_base64 {
            false => Ok(Self::Hmac(hmac::Key::new(algorithm, text.as_bytes()))),
            true => match BASE64.decode(text) {
                Ok(secret) if !secret.is_empty() => Ok(Self::Hmac(hmac::Key::new(algorithm, &secret))),
                _ => Err("must hold the secret in base64, as the sender shows it"),
            },
        };
        match algorithm {
            Algorithm::HmacSha1 => hmac(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
            Algorithm::HmacSha256 => hmac(hmac::HMAC_SHA256),
            Algorithm::Token => Ok(Self::Token(sha256(text.as_bytes()))),
            Algorithm::Ed25519 => match public(text, ED25519_DER).filter(|key| key.len() == 32) {
                Some(key) => Ok(Self::Public(&signature::ED25519, key)),
                None => Err("must hold an Ed25519 public key in hexadecimal, base64 or PEM"),
            },
            Algorithm::EcdsaP256 => match public(text, P256_DER).filter(|key| key.len() == 65 && key[0] == 4)
            {
                Some(key) => Ok(Self::Public(&signature::ECDSA_P256_SHA256_ASN1, key)),
                None => Err("must hold a P-256 public key in base64 or PEM"),
            },
        }
    }

    /// Whether one of the signatures is this key's for what is signed. The time that it takes does
    /// not tell how much of a secret's signature fits.
    pub(super) fn fits_one(&self, signed: &[u8], signatures: &[Vec<u8>]) -> bool {
        match self {
            Self::Hmac(key) => {
                let own = hmac::sign(key, signed);
                signatures.iter().any(|shown| own.as_ref().ct_eq(shown).into())
            }
            Self::Token(own) => signatures.iter().any(|shown| own.ct_eq(&sha256(shown)).into()),
            Self::Public(algorithm, key) => {
                let key = signature::UnparsedPublicKey::new(*algorithm, key);
                signatures.iter().any(|shown| key.verify(signed, shown).is_ok())
            }
        }
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// A public key's point, from any of the forms in which it is handed out.
fn public(text: &str, der: &[u8]) -> Option<Vec<u8>> {
    let lines = text.lines().filter(|line| !line.starts_with("-----"));
    let text: String = lines.flat_map(str::split_whitespace).collect();
    let bytes = unhex(&text).or_else(|| BASE64.decode(&text).ok())?;
    Some(bytes.strip_prefix(der).map_or(bytes.clone(), <[u8]>::to_vec))
}

/// What a secret's file holds.
pub(super) struct SecretFile {
    /// Its text, without white space around it.
    pub(super) text: String,
    /// Everybody on the machine may read it.
    pub(super) is_open: bool,
}

/// Reads a secret's file.
///
/// # Errors
/// A sentence that says what is wrong with the file.
pub(super) fn read(path: &Path) -> Result<SecretFile, String> {
    let at = path.display();
    let file = File::open(path).map_err(|e| format!("cannot read the secret {at}: {e}"))?;
    let about = file.metadata().map_err(|e| format!("cannot look at the secret {at}: {e}"))?;
    if about.mode() & 0o002 != 0 {
        return Err(format!(
            "everybody may write to the secret {at}, and so sign what they like: chmod o-w it"
        ));
    }
    let mut text = String::new();
    file.take(SECRET_FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|e| format!("cannot read the secret {at}: {e}"))?;
    if text.len() as u64 > SECRET_FILE_BYTES_MAX {
        return Err(format!("the secret {at} has more than {SECRET_FILE_BYTES_MAX} bytes"));
    }
    // Some editors begin a file with a byte order mark, which nobody sees.
    match text.trim_start_matches('\u{feff}').trim() {
        "" => Err(format!("the secret {at} is empty")),
        secret => Ok(SecretFile { text: secret.to_owned(), is_open: about.mode() & 0o004 != 0 }),
    }
}
