//! The secret that a client shows.
//!
//! ```text
//! sekali_<id>_<secret><checksum>
//! sekali_8hQ2mVx0Lr_…43 characters……6 characters…
//! ```
//!
//! All characters are letters and digits, so that a double click takes a whole token, and a scanner
//! for leaked secrets finds one by its beginning and its length. The id is public. The secret has
//! 256 random bits, so its digest tells nothing of it, and needs no salt and no slow hash. The
//! checksum, a CRC-32C of all before it, tells a typo from a token that is unknown.

use std::fmt;
use std::str::FromStr;

use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

use crate::error::{Error, ErrorKind, Result};

/// What each token begins with.
pub const PREFIX: &str = "sekali_";
/// Characters of an id.
pub const ID_CHARS: usize = 10;
/// Characters of a secret: 43 of 62 values each are 256 bits.
const SECRET_CHARS: usize = 43;
const CHECKSUM_CHARS: usize = 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The SHA-256 of a token's text.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl PartialEq for Digest {
    /// Takes as long wherever the two differ.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Digest {}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || "sha256 must be 64 hexadecimal digits".to_owned();
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

/// A token as a client has it. Its text is shown once, where it is made.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    text: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.id())
    }
}

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    /// It does not have the form of one.
    #[error(
        "this is no token of sekali: one is sekali_, an id, _ and a secret, as `sekali token create` prints it"
    )]
    Form,
    /// It has the form, and its checksum is another one.
    #[error("the token has a slip: its checksum does not fit; copy it again, whole")]
    Checksum,
}

impl Token {
    /// A new token.
    ///
    /// # Errors
    /// `Io`: the operating system gives no randomness.
    pub fn generate() -> Result<Self> {
        let mut text = format!("{PREFIX}{}_{}", random(ID_CHARS)?, random(SECRET_CHARS)?);
        text.extend(checksum(&text).map(char::from));
        Ok(Self { text })
    }

    /// The part of the token that may be shown.
    pub fn id(&self) -> &str {
        &self.text[PREFIX.len()..PREFIX.len() + ID_CHARS]
    }

    /// The whole token, a secret.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// What is kept of the token.
    pub fn digest(&self) -> Digest {
        digest_of(&self.text)
    }
}

impl FromStr for Token {
    type Err = NoToken;

    fn from_str(text: &str) -> std::result::Result<Self, NoToken> {
        parse(text).map(|_| Self { text: text.to_owned() })
    }
}

/// The id of a token that a client shows.
///
/// # Errors
/// The text is no token.
pub fn parse(text: &str) -> std::result::Result<&str, NoToken> {
    const SECRET_AT: usize = PREFIX.len() + ID_CHARS + 1;
    const CHECKSUM_AT: usize = SECRET_AT + SECRET_CHARS;
    let bytes = text.as_bytes();
    let is_fit = bytes.len() == CHECKSUM_AT + CHECKSUM_CHARS
        && text.starts_with(PREFIX)
        && bytes[SECRET_AT - 1] == b'_'
        && are_digits(&bytes[PREFIX.len()..SECRET_AT - 1])
        && are_digits(&bytes[SECRET_AT..]);
    if !is_fit {
        return Err(NoToken::Form);
    }
    if checksum(&text[..CHECKSUM_AT]) != bytes[CHECKSUM_AT..] {
        return Err(NoToken::Checksum);
    }
    Ok(&text[PREFIX.len()..SECRET_AT - 1])
}

/// Whether all are letters or digits. Looks at all of them, which compilers do many at a time.
fn are_digits(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |are, byte| are & byte.is_ascii_alphanumeric())
}

/// The digest of a token's text.
pub fn digest_of(text: &str) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    Digest(bytes)
}

/// The checksum of a text, in six digits.
fn checksum(text: &str) -> [u8; CHECKSUM_CHARS] {
    let mut rest = crc32c::crc32c(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[rest as usize % DIGITS.len()];
        rest /= DIGITS.len() as u32;
    }
    digits
}

/// Makes a text of `chars` letters and digits, each as likely as any other.
pub(super) fn random(chars: usize) -> Result<String> {
    let mut text = String::with_capacity(chars);
    while text.len() < chars {
        let mut bytes = [0; 64];
        getrandom::fill(&mut bytes)
            .map_err(|e| Error::new(ErrorKind::Io, format!("the system gives no randomness: {e}")))?;
        // Six bits have 64 values: the two beyond are drawn again.
        let fit = bytes.iter().filter_map(|byte| DIGITS.get(usize::from(byte & 63)));
        text.extend(fit.take(chars - text.len()).map(|digit| char::from(*digit)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_says_its_id_alone() {
        let token = Token::generate().unwrap();
        assert_eq!(parse(token.reveal()), Ok(token.id()));
        assert_eq!(token.reveal().parse::<Token>(), Ok(token.clone()));
        assert_eq!(format!("{token:?}"), format!("Token({})", token.id()));
        assert_ne!(token, Token::generate().unwrap());
        assert_eq!(token.digest().to_string().parse(), Ok(token.digest()));
    }

    #[test]
    fn each_slip_of_one_character_is_told_from_an_unknown_token() {
        let token = Token::generate().unwrap();
        for at in PREFIX.len()..token.reveal().len() {
            let mut text = token.reveal().to_owned();
            let other = if text.as_bytes()[at] == b'x' { "y" } else { "x" };
            text.replace_range(at..=at, other);
            assert!(parse(&text).is_err(), "{at}");
        }
        for wrong in ["", "sekali_", "sekali_é", &token.reveal()[1..], &format!("{}0", token.reveal())] {
            assert_eq!(parse(wrong), Err(NoToken::Form), "{wrong}");
        }
    }
}
