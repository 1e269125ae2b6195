//! What a person writes of a source, in the table `[sources.NAME]` of the configuration file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::credential::is_credential;
use super::key::{Algorithm, Key, SecretFile, read};
use super::mapping::Mapping;
use super::parts::Encoding;
use super::preset::{PRESETS, Preset, Scheme};
use super::proof::{Proof, Secret};
use super::source::{Reply, Source};
use super::template::{Placeholder, Template, Use};
use crate::event::{Fault, check_event_id, check_topic};
use crate::limits::{SECRETS_MAX, SOURCE_NAME_BYTES_MAX};

/// Shortest secret that nobody can guess, in characters.
const SECRET_CHARS_MIN: usize = 16;

/// One source, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A sender that is known.
    pub preset: Option<String>,
    /// How another sender signs.
    pub scheme: Option<String>,
    /// The header with its signature.
    pub header: Option<String>,
    /// What stands before the signature.
    pub prefix: Option<String>,
    /// What stands between several parts of the header.
    pub separator: Option<char>,
    /// How the signature is written.
    pub encoding: Option<String>,
    /// What is signed.
    pub signed: Option<String>,
    /// When it was signed.
    pub signed_at: Option<String>,
    /// How far that may be from now.
    pub tolerance: Option<String>,
    /// The URL that the sender calls, where that is signed.
    pub url: Option<String>,
    /// Files with the secrets, one each.
    pub secret_files: Vec<PathBuf>,
    /// A file with what a sender shows that asks by GET.
    pub verify_token_file: Option<PathBuf>,
    /// The topic.
    pub topic: Option<String>,
    /// The id.
    pub event_id: Option<String>,
    /// The time.
    pub timestamp: Option<String>,
    /// The body is a list of events.
    pub list: Option<bool>,
    /// Headers that are kept.
    pub headers: Vec<String>,
    /// The topic for what is genuine and no event.
    pub quarantine: Option<String>,
}

/// What is wrong with a source, in a sentence that names it and says what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(pub(super) String);

/// How a sender signs, from a preset or from what is written.
struct Sender {
    preset: Preset,
    schemes: Vec<(Scheme, String)>,
}

impl Sender {
    /// The schemes that a key is for: the one whose mark it has, or else all that have none.
    fn fit(&self, key: &str) -> Vec<&(Scheme, String)> {
        let marked = |(scheme, _): &&(Scheme, String)| {
            !scheme.key_prefix.is_empty() && key.starts_with(scheme.key_prefix)
        };
        if let Some(scheme) = self.schemes.iter().find(marked) {
            return vec![scheme];
        }
        let fit: Vec<_> = self.schemes.iter().filter(|(scheme, _)| scheme.key_prefix.is_empty()).collect();
        if fit.is_empty() { self.schemes.iter().take(1).collect() } else { fit }
    }
}

impl Settings {
    /// The files that hold its secrets.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.secret_files.iter().chain(&self.verify_token_file).cloned()
    }

    /// Checks all but the secrets.
    pub(super) fn check(&self, name: &str) -> Result<(), SettingsError> {
        self.build(name).map(|_| ()).map_err(|why| fault(name, &why))
    }

    /// Makes the source, and reads its secrets.
    pub(super) fn load(&self, name: &str) -> Result<Source, SettingsError> {
        let (mut source, sender) = self.build(name).map_err(|why| fault(name, &why))?;
        self.read_secrets(&mut source, &sender).map_err(|why| fault(name, &why))?;
        Ok(source)
    }

    fn build(&self, name: &str) -> Result<(Source, Sender), String> {
        check_name(name)?;
        let sender = match (&self.preset, &self.scheme) {
            (Some(preset), None) => self.known(preset)?,
            (None, Some(scheme)) => self.described(scheme)?,
            (Some(_), Some(_)) => {
                return Err("preset and scheme exclude each other: write one of them".to_owned());
            }
            (None, None) => {
                return Err(format!(
                    "preset is missing: write one of {}; or describe the sender with scheme",
                    presets()
                ));
            }
        };
        match self.secret_files.len() {
            0 => return Err("secret_files is missing: write a list of files with a secret each".to_owned()),
            1..=SECRETS_MAX => {}
            _ => {
                return Err(format!(
                    "secret_files has more than {SECRETS_MAX} entries: leave out the oldest"
                ));
            }
        }
        let (proof, mapping) = (self.proof(&sender.preset)?, self.mapping(name, &sender.preset)?);
        if let Some(topic) = &self.quarantine {
            check_topic(topic).map_err(|found| format!("quarantine: {}", found.message))?;
            if topic.contains('{') && topic.contains('}') {
                return Err(format!(
                    "quarantine is {topic:?}: it is one topic for all, so write it without braces"
                ));
            }
        }
        if self.verify_token_file.is_some() && !sender.preset.is_hub {
            return Err(
                "verify_token_file is for senders that ask by GET, such as the preset meta: leave it out"
                    .to_owned(),
            );
        }
        let reply = match sender.preset.challenge {
            None => None,
            Some(row) => {
                let (at, answer) =
                    (template("at", row.at, Use::Event)?, template("answer", row.answer, Use::Event)?);
                Some(Reply { at, is: row.is, answer })
            }
        };
        let source = Source {
            name: name.to_owned(),
            preset: self.preset.clone(),
            scheme: self.scheme.clone(),
            proof,
            mapping,
            quarantine: self.quarantine.clone(),
            reply,
            answer: sender.preset.answer,
            verify_token: None,
            warnings: Vec::new(),
        };
        Ok((source, sender))
    }

    /// A sender of the table.
    fn known(&self, name: &str) -> Result<Sender, String> {
        let preset =
            *Preset::find(name).ok_or_else(|| format!("preset is {name:?}: write one of {}", presets()))?;
        let described = [
            ("header", self.header.is_some()),
            ("prefix", self.prefix.is_some()),
            ("separator", self.separator.is_some()),
            ("encoding", self.encoding.is_some()),
            ("signed", self.signed.is_some()),
            ("signed_at", self.signed_at.is_some()),
        ];
        if let Some((key, _)) = described.iter().find(|(_, is_there)| *is_there) {
            return Err(format!(
                "the preset {name} knows the {key}: leave it out, or write scheme instead of preset"
            ));
        }
        let schemes = preset.schemes.iter().map(|scheme| (*scheme, scheme.prefix.to_owned())).collect();
        Ok(Sender { preset, schemes })
    }

    /// A sender that is described.
    fn described(&self, scheme: &str) -> Result<Sender, String> {
        let names = || Algorithm::ALL.map(Algorithm::name).join(", ");
        let algorithm = Algorithm::ALL.into_iter().find(|known| known.name() == scheme);
        let algorithm = algorithm.ok_or_else(|| format!("scheme is {scheme:?}: write one of {}", names()))?;
        match &self.header {
            None => {
                return Err(
                    "header is missing: write the name of the header that has the signature".to_owned()
                );
            }
            Some(name) if !is_header_name(name) => {
                return Err(format!("header is {name:?}, which is no name of a header"));
            }
            Some(_) => {}
        }
        let encodings = [Encoding::Hex, Encoding::Base64, Encoding::Text];
        let encoding = match (&self.encoding, algorithm) {
            (None, Algorithm::Token) => Encoding::Text,
            (None, Algorithm::HmacSha1 | Algorithm::HmacSha256) => Encoding::Hex,
            (None, Algorithm::Ed25519 | Algorithm::EcdsaP256) => Encoding::Base64,
            (Some(name), _) => encodings.into_iter().find(|known| known.name() == name).ok_or_else(|| {
                format!("encoding is {name:?}: write {}", encodings.map(Encoding::name).join(", "))
            })?,
        };
        if algorithm != Algorithm::Token && encoding == Encoding::Text {
            return Err("encoding \"text\" is for the scheme token: write hex or base64".to_owned());
        }
        if algorithm == Algorithm::Token && (self.signed.is_some() || self.signed_at.is_some()) {
            return Err("with the scheme token nothing is signed: leave out signed and signed_at".to_owned());
        }
        let preset = Preset { encoding, separator: self.separator, ..Preset::unknown() };
        let scheme = Scheme { algorithm, prefix: "", key_prefix: "", is_key_base64: false };
        Ok(Sender { preset, schemes: vec![(scheme, self.prefix.clone().unwrap_or_default())] })
    }

    fn proof(&self, preset: &Preset) -> Result<Proof, String> {
        let signature = match &self.header {
            Some(name) => format!("{{header.{name}}}"),
            None => preset.signature.to_owned(),
        };
        let optional =
            |key, text: Option<&str>| text.map(|text| template(key, text, Use::Signed)).transpose();
        let signed_at = self.signed_at.as_deref().or(preset.signed_at);
        let proof = Proof {
            signature: template("header", &signature, Use::Signed)?,
            second_signature: optional("header", preset.second_signature)?,
            separator: preset.separator,
            encoding: preset.encoding,
            signed: template("signed", self.signed.as_deref().unwrap_or(preset.signed), Use::Signed)?,
            signed_at: optional("signed_at", signed_at)?,
            tolerance: self.tolerance(preset)?,
            body_digest: optional("body_digest", preset.body_digest)?,
            url: self.url.clone(),
            secrets: Vec::new(),
        };
        self.check_signed(&proof)?;
        self.check_url(&proof)?;
        Ok(proof)
    }

    fn tolerance(&self, preset: &Preset) -> Result<Option<Duration>, String> {
        let Some(text) = &self.tolerance else {
            return Ok(preset.tolerance_seconds.map(Duration::from_secs));
        };
        if self.signed_at.is_none() && preset.signed_at.is_none() {
            return Err(
                "tolerance needs to know when a delivery was signed: write signed_at, or leave it out"
                    .to_owned(),
            );
        }
        match humantime::parse_duration(text) {
            Ok(tolerance) if !tolerance.is_zero() => Ok(Some(tolerance)),
            _ => Err(format!("tolerance is {text:?}: write a span of time such as \"5m\"")),
        }
    }

    /// What is not signed could be anything.
    fn check_signed(&self, proof: &Proof) -> Result<(), String> {
        if self.signed.as_ref().is_some_and(|_| !proof.signed.has(&Placeholder::Body)) {
            return Err(
                "signed must hold {body}: with the same signature anybody could send another body".to_owned()
            );
        }
        let has_time = proof.signed.has(&Placeholder::Timestamp);
        if has_time && proof.signed_at.is_none() {
            return Err("signed holds {timestamp}: write where that stands, as signed_at".to_owned());
        }
        let is_in_body = self.signed_at.as_ref().is_none_or(|at| at.starts_with("{body."));
        if !has_time && !is_in_body {
            return Err("signed must hold {timestamp}: otherwise anybody could write another time".to_owned());
        }
        Ok(())
    }

    fn check_url(&self, proof: &Proof) -> Result<(), String> {
        match (&self.url, proof.signed.has(&Placeholder::Url)) {
            (None, true) => {
                Err("url is missing: write the URL that the sender calls, as it is signed".to_owned())
            }
            (Some(_), false) => Err("url is not signed by this sender: leave it out".to_owned()),
            (Some(url), true) if !url.starts_with("http") || url.contains(['?', '#', ' ']) => {
                Err(format!("url is {url:?}: write it as the sender calls it, without a query"))
            }
            _ => Ok(()),
        }
    }

    fn mapping(&self, name: &str, preset: &Preset) -> Result<Mapping, String> {
        let event = |key: &str, own: &Option<String>, known: Option<&str>, such_as: &str| {
            let text = own.as_deref().or(known);
            let text = text.ok_or_else(|| {
                format!("{key} is missing: write what it is made of, such as {key} = {such_as:?}")
            })?;
            template(key, text, Use::Event)
        };
        let timestamp = self.timestamp.as_deref().or(preset.timestamp);
        let topic = event("topic", &self.topic, preset.topic, "{source}.{body.type}")?;
        let event_id = event("event_id", &self.event_id, preset.event_id, "{body.id}")?;
        let timestamp = timestamp.map(|text| template("timestamp", text, Use::Event)).transpose()?;
        check_fixed("topic", &topic, name, check_topic)?;
        check_fixed("event_id", &event_id, name, check_event_id)?;
        if !event_id.varies() {
            return Err(format!(
                "event_id is {:?} for all deliveries: write what it is made of in braces, such as {{body.id}}",
                event_id.to_string()
            ));
        }
        for (key, template) in
            [("topic", Some(&topic)), ("event_id", Some(&event_id)), ("timestamp", timestamp.as_ref())]
        {
            let mut headers = template.into_iter().flat_map(Template::headers);
            if let Some(header) = headers.find(|header| self.holds_credential(header, preset)) {
                return Err(format!("{key} has {{header.{header}}}, which holds a credential: use another"));
            }
        }
        let other = preset.other.filter(|_| self.topic.is_none()).map(|other| {
            let own = self.event_id.as_deref().unwrap_or(other.event_id);
            Ok::<_, String>((
                template("topic", other.topic, Use::Event)?,
                template("event_id", own, Use::Event)?,
            ))
        });
        Ok(Mapping {
            topic,
            event_id,
            other: other.transpose()?,
            timestamp,
            headers: self.headers.iter().map(|name| self.kept(name, preset)).collect::<Result<_, _>>()?,
            is_list: self.list.unwrap_or(preset.is_list),
        })
    }

    /// A header that is to be kept, in lower case.
    fn kept(&self, name: &str, preset: &Preset) -> Result<String, String> {
        let lower = name.to_ascii_lowercase();
        if self.headers.iter().filter(|other| other.eq_ignore_ascii_case(name)).count() > 1 {
            return Err(format!("headers has {name} twice: name it once"));
        }
        if !is_header_name(&lower) {
            return Err(format!("headers has {name:?}, which is no name of a header"));
        }
        match self.holds_credential(&lower, preset) {
            true => Err(format!("headers has {name}, which holds a credential: leave it out")),
            false => Ok(lower),
        }
    }

    /// Whether the header of this name, in lower case, holds the signature or another credential.
    fn holds_credential(&self, name: &str, preset: &Preset) -> bool {
        preset.signature.to_ascii_lowercase().contains(&format!("{{header.{name}}}"))
            || self.header.as_ref().is_some_and(|header| header.eq_ignore_ascii_case(name))
            || is_credential(name)
    }

    fn read_secrets(&self, source: &mut Source, sender: &Sender) -> Result<(), String> {
        for file in &self.secret_files {
            let SecretFile { text, is_open } = read(file)?;
            let fit = sender.fit(&text);
            if is_open && fit.iter().any(|(scheme, _)| scheme.algorithm.is_secret()) {
                source.warnings.push(readable(file));
            }
            let secret =
                fit.first().map_or("", |(scheme, _)| text.strip_prefix(scheme.key_prefix).unwrap_or(&text));
            for (scheme, prefix) in fit {
                let key = Key::new(scheme.algorithm, secret, scheme.is_key_base64)
                    .map_err(|why| format!("the secret {} {why}", file.display()))?;
                source.proof.secrets.push(Secret { key, prefix: prefix.clone(), file: file.clone() });
            }
            if secret.chars().count() < SECRET_CHARS_MIN {
                let sentence = format!("the secret {} is so short that it can be guessed", file.display());
                source.warnings.push(sentence);
            }
        }
        if let Some(file) = &self.verify_token_file {
            let SecretFile { text, is_open } = read(file)?;
            source.verify_token = Some(Key::new(Algorithm::Token, &text, false).map_err(str::to_owned)?);
            source.warnings.extend(is_open.then(|| readable(file)));
        }
        if source.mapping.event_id.has(&Placeholder::BodySha256) {
            source.warnings.push(
                "event_id is made of the body: two true events with the same body are stored as one"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

fn readable(file: &Path) -> String {
    format!("everybody on this machine may read the secret {}: chmod o-r it", file.display())
}

fn fault(name: &str, why: &str) -> SettingsError {
    SettingsError(format!("[sources.{name}]: {why}"))
}

/// Whether a header can have this name.
fn is_header_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}

fn check_name(name: &str) -> Result<(), String> {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    match (1..=SOURCE_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_fit) {
        true => Ok(()),
        false => {
            Err(format!("a source's name must have 1 to {SOURCE_NAME_BYTES_MAX} letters, digits, - and _"))
        }
    }
}

fn template(key: &str, text: &str, used: Use) -> Result<Template, String> {
    Template::parse(text, used).map_err(|why| format!("{key}: {why}"))
}

/// Checks what a template makes of a delivery that has nothing for it.
fn check_fixed(
    key: &str,
    template: &Template,
    source: &str,
    check: fn(&str) -> Result<(), Fault>,
) -> Result<(), String> {
    let made = template.fill(|place| {
        let text = if *place == Placeholder::Source { source } else { "" };
        Some(text.as_bytes().into())
    });
    match made.ok().and_then(|made| String::from_utf8(made).ok()) {
        Some(fixed) if !fixed.is_empty() => {
            check(&fixed).map_err(|found| format!("{key}: {}", found.message))
        }
        _ => Ok(()),
    }
}

fn presets() -> String {
    PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>().join(", ")
}
