//! What is kept of tokens on disk: a TOML file that people may read and edit. It has no secrets.
//!
//! ```toml
//! [[token]]
//! id = "8hQ2mVx0Lr"
//! name = "checkout"
//! sha256 = "…"                          # of the whole token
//! allow = ["publish:orders.*", "read:*"]
//! source = ["checkout"]                 # it may name no other source; without it, any
//! created = "2026-11-29T10:00:00.000000Z"
//! expires = "2027-02-27T10:00:00.000000Z"
//! revoked = "2026-12-01T10:00:00.000000Z"
//!
//! [[certificate]]                       # of a client, over TLS
//! name = "worker"
//! san = ["uri:spiffe://example.org/worker"]
//! allow = ["consume:orders.*"]
//! ```
//!
//! A file is replaced as a whole, so that whoever reads it sees all of the old or all of the new
//! one. Programs that change it take turns by locking it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Gid, OFlags, Uid};
use serde::{Deserialize, Serialize};

use super::scope::Scope;
use super::token::{Digest, ID_CHARS, Token};
use crate::clock::Timestamp;
use crate::disk::open_regular;
use crate::error::{During, Error, ErrorKind, Result};
use crate::event::check_source;
use crate::limits::TOKENS_FILE_BYTES_MAX;
use crate::toml_fault;

/// What the names of certificates begin with.
const SAN_KINDS: [&str; 4] = ["dns:", "uri:", "email:", "ip:"];

/// What is kept of one token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The public part of the token.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What the token is compared with.
    #[serde(with = "text")]
    pub sha256: Digest,
    /// What it allows.
    pub allow: Vec<Scope>,
    /// The sources that its events may name; any, if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<String>,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// When it was revoked; it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Timestamp>,
}

impl Entry {
    /// What is kept of a token that is made now.
    pub fn new(token: &Token, name: &str, allow: Vec<Scope>, created: Timestamp) -> Self {
        let (id, sha256) = (token.id().to_owned(), token.digest());
        Self {
            id,
            name: name.to_owned(),
            sha256,
            allow,
            source: Vec::new(),
            created,
            expires: None,
            revoked: None,
        }
    }

    /// What it lets its owner do, and until when, as a line for the log.
    pub(super) fn terms(&self) -> String {
        let time = |word: &str, time: Option<Timestamp>| time.map(|time| format!("{word} {time}"));
        let times = [time("expires", self.expires), time("revoked", self.revoked)];
        terms(&self.name, &self.allow, &self.source, times.into_iter().flatten())
    }
}

/// What a client's certificate allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// What people call it.
    pub name: String,
    /// Names of which the certificate must have one, as `dns:`, `uri:`, `email:` or `ip:` and the
    /// name.
    pub san: Vec<String>,
    /// What it allows.
    pub allow: Vec<Scope>,
    /// The sources that its events may name; any, if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<String>,
}

impl Certificate {
    /// What it lets its owner do, as a line for the log.
    pub(super) fn terms(&self) -> String {
        terms(&self.name, &self.allow, &self.source, self.san.iter().cloned())
    }
}

/// A name, scopes, sources if there are some, and more parts.
fn terms(name: &str, allow: &[Scope], source: &[String], more: impl Iterator<Item = String>) -> String {
    let scopes = allow.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let sources = (!source.is_empty()).then(|| format!("source {}", source.join(" ")));
    let parts: Vec<String> = [scopes].into_iter().chain(sources).chain(more).collect();
    format!("{name}: {}", parts.join(", "))
}

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokensFile {
    /// What is kept of tokens.
    #[serde(default, rename = "token", skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Entry>,
    /// What certificates allow.
    #[serde(default, rename = "certificate", skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Certificate>,
}

impl TokensFile {
    /// Reads the file; `None` if there is none.
    ///
    /// # Errors
    /// `Unusable`: it is no tokens file, or others may write to it. `Io`.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        match open_regular(OpenOptions::new().read(true), OFlags::empty(), path) {
            Ok(file) => Self::from_file(&file, path).map(Some),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(e).during("open", path),
        }
    }

    /// Whether a group may write to the file, and so give itself a token. If it can't be looked at,
    /// [`TokensFile::read`] says why.
    pub fn is_group_writable(path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|about| about.mode() & 0o020 != 0)
    }

    fn from_file(file: &File, path: &Path) -> Result<Self> {
        let about = file.metadata().during("look at", path)?;
        if about.mode() & 0o002 != 0 {
            let message = format!(
                "everybody may write to {}, and so give themselves a token: chmod o-w it",
                path.display()
            );
            return Err(Error::new(ErrorKind::Unusable, message));
        }
        let mut text = String::new();
        file.take(TOKENS_FILE_BYTES_MAX + 1).read_to_string(&mut text).during("read", path)?;
        if text.len() as u64 > TOKENS_FILE_BYTES_MAX {
            let message = format!("{} has more than {TOKENS_FILE_BYTES_MAX} bytes", path.display());
            return Err(Error::new(ErrorKind::Unusable, message));
        }
        Self::parse(&text)
            .map_err(|why| Error::new(ErrorKind::Unusable, format!("{}: {why}", path.display())))
    }

    /// Reads the text of a file.
    fn parse(text: &str) -> std::result::Result<Self, String> {
        // Somebody may have pasted a token, where its digest belongs.
        let file: Self =
            toml::from_str(text).map_err(|fault| toml_fault::sentence(text, &fault, |_| true))?;
        file.check().map(|()| file)
    }

    fn check(&self) -> std::result::Result<(), String> {
        for (at, Entry { id, name, allow, source, .. }) in self.tokens.iter().enumerate() {
            if id.len() != ID_CHARS || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                let number = at + 1;
                return Err(format!(
                    "the id of the token with number {number} is not {ID_CHARS} letters and digits"
                ));
            }
            if self.tokens[..at].iter().any(|other| other.id == *id) {
                return Err(format!("two tokens have the id {id:?}"));
            }
            check_entry("token", at, name, allow, source)?;
        }
        for (at, Certificate { name, san, allow, source }) in self.certificates.iter().enumerate() {
            check_entry("certificate", at, name, allow, source)?;
            if san.is_empty() {
                return Err(format!("certificate {name:?} has no san: name at least one"));
            }
            for san in san {
                if !SAN_KINDS.iter().any(|kind| san.starts_with(kind)) {
                    let kinds = SAN_KINDS.join(", ");
                    return Err(format!("certificate {name:?}: each san must begin with one of {kinds}"));
                }
                if let Some(address) = san.strip_prefix("ip:")
                    && address.parse().map(|parsed: IpAddr| parsed.to_string()).as_deref() != Ok(address)
                {
                    return Err(format!(
                        "certificate {name:?}: san ip: needs an address in its shortest form"
                    ));
                }
                if san.starts_with("dns:") && san.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    return Err(format!("certificate {name:?}: san dns: needs a name in lower case"));
                }
                if self.certificates[..at].iter().any(|other| other.san.contains(san)) {
                    return Err(format!("two certificates have the san {san:?}"));
                }
            }
        }
        Ok(())
    }

    /// Changes the file, which is made if there is none, and keeps others from changing it
    /// meanwhile. If the path leads there by symbolic links, these stay as they are.
    ///
    /// # Errors
    /// Those of `change`, which then has changed nothing; `Unusable`, `Io`.
    pub fn edit<T, E: From<Error>>(
        path: &Path,
        change: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let (locked, path, is_made) = lock(path)?;
        let done = Self::from_file(&locked, &path).map_err(E::from).and_then(|mut file| {
            let done = change(&mut file)?;
            file.check().map_err(|why| Error::new(ErrorKind::Unusable, why))?;
            file.replace(&path, &locked)?;
            Ok(done)
        });
        if done.is_err() && is_made {
            // Nobody else changes it while it is locked. A service would take it for one that lets
            // nobody in.
            let _ = std::fs::remove_file(&path);
        }
        done
    }

    /// Whether it lets nobody in.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.certificates.is_empty()
    }

    /// Puts this file in the place of another one, whose owner and mode it gets.
    fn replace(&self, path: &Path, old: &File) -> Result<()> {
        let text = toml::to_string(self)
            .map_err(|e| Error::new(ErrorKind::Unusable, format!("cannot write tokens: {e}")))?;
        let about = old.metadata().during("look at", path)?;
        let folder = folder(path);
        let mut new = tempfile::NamedTempFile::new_in(folder).during("make a file in", folder)?;
        new.write_all(b"# Changed by `sekali token`; a running service sees it at once.\n\n")
            .and_then(|()| new.write_all(text.as_bytes()))
            .during("write", new.path())?;
        keep_owner(new.as_file(), (about.uid(), about.gid()), path)?;
        let mode = std::fs::Permissions::from_mode(about.mode() & 0o777);
        new.as_file().set_permissions(mode).during("set the mode of", new.path())?;
        new.as_file().sync_all().during("sync", new.path())?;
        new.persist(path).map_err(|e| Error::io("replace", path, e.error))?;
        File::open(folder).and_then(|folder| folder.sync_all()).during("sync", folder)
    }
}

fn check_entry(
    kind: &str,
    at: usize,
    name: &str,
    allow: &[Scope],
    source: &[String],
) -> std::result::Result<(), String> {
    if name.is_empty() || name.len() > 100 || name.chars().any(char::is_control) {
        let number = at + 1;
        return Err(format!(
            "the name of the {kind} with number {number} must have 1 to 100 bytes without control characters"
        ));
    }
    if allow.is_empty() {
        return Err(format!("{kind} {name:?} allows nothing: give allow at least one scope"));
    }
    source.iter().try_for_each(|source| {
        check_source(source).map_err(|fault| format!("{kind} {name:?}: a source of it: {}", fault.message))
    })
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Opens the file and locks it; makes an empty one if there is none, and says so. The path is that
/// of the file itself, whatever links lead to it.
fn lock(path: &Path) -> Result<(File, PathBuf, bool)> {
    loop {
        let is_made = !path.try_exists().during("look for", path)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(is_made).truncate(false).mode(0o600);
        let file = match open_regular(&mut options, OFlags::empty(), path) {
            // It was there a moment ago.
            Err(e) if e.kind() == io::ErrorKind::NotFound && !is_made => continue,
            opened => opened.during("open", path)?,
        };
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .map_err(|e| Error::io("lock", path, e.into()))?;
        let there = std::fs::canonicalize(path).and_then(|real| Ok((std::fs::metadata(&real)?, real)));
        let locked = file.metadata().during("look at", path)?;
        // Whoever had it before may have replaced it.
        let Ok((there, real)) = there else { continue };
        if (there.dev(), there.ino()) == (locked.dev(), locked.ino()) {
            // Another command may have made it meanwhile, and filled it.
            let is_made = is_made && locked.len() == 0;
            if is_made {
                let about = std::fs::metadata(folder(&real)).during("look at", folder(&real))?;
                keep_owner(&file, (about.uid(), about.gid()), &real)?;
            }
            return Ok((file, real, is_made));
        }
    }
}

/// Gives a file to the user that has what it replaces, or the folder that it is made in, if that is
/// somebody else: `root` changes the file of a service that runs as another user.
pub fn keep_owner(file: &File, (uid, gid): (u32, u32), path: &Path) -> Result<()> {
    let about = file.metadata().during("look at", path)?;
    if (about.uid(), about.gid()) == (uid, gid) || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .map_err(|e| Error::io("change the owner of", path, e.into()))
}

/// Values that are kept as texts.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &impl Display, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> (Token, Entry) {
        let token = Token::generate().unwrap();
        let scopes = vec!["publish:orders.*".parse().unwrap(), Scope::Metrics];
        let entry = Entry::new(&token, name, scopes, Timestamp(1_795_000_000_000_000));
        (token, entry)
    }

    #[test]
    fn a_file_is_read_back_as_it_was_written_and_has_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        assert_eq!(TokensFile::read(&path).unwrap(), None);
        let (token, mut first) = entry("a \"name\"");
        first.expires = Some(Timestamp(1_795_000_000_000_001));
        first.source = vec!["checkout".to_owned()];
        for entry in [first.clone(), entry("second").1] {
            TokensFile::edit(&path, |file| {
                file.tokens.push(entry);
                Result::<(), Error>::Ok(())
            })
            .unwrap();
        }
        let read = TokensFile::read(&path).unwrap().unwrap();
        assert_eq!(read.tokens[0], first);
        assert_eq!(read.tokens.len(), 2);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&token.reveal()[20..]), "{text}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_to_the_file_stays_a_link_also_if_the_file_is_yet_to_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let (link, target) = (dir.path().join("tokens.toml"), dir.path().join("shared/tokens.toml"));
        std::fs::create_dir(dir.path().join("shared")).unwrap();
        std::os::unix::fs::symlink("shared/tokens.toml", &link).unwrap();
        for number in 1..3 {
            TokensFile::edit(&link, |file| {
                file.tokens.push(entry(&number.to_string()).1);
                Result::<(), Error>::Ok(())
            })
            .unwrap();
            assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
            assert!(!std::fs::symlink_metadata(&target).unwrap().is_symlink());
            assert_eq!(TokensFile::read(&target).unwrap().unwrap().tokens.len(), number);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        assert_eq!(std::fs::read_dir(dir.path().join("shared")).unwrap().count(), 1);
    }

    #[test]
    fn changes_at_once_are_all_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        std::thread::scope(|scope| {
            for number in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    TokensFile::edit(path, |file| {
                        file.tokens.push(entry(&number.to_string()).1);
                        Result::<(), Error>::Ok(())
                    })
                    .unwrap();
                });
            }
        });
        assert_eq!(TokensFile::read(&path).unwrap().unwrap().tokens.len(), 8);
    }

    #[test]
    fn a_wrong_file_is_told_with_its_place() {
        let (_, entry) = entry("one");
        let good = toml::to_string(&TokensFile { tokens: vec![entry], ..TokensFile::default() }).unwrap();
        assert!(TokensFile::parse(&good).is_ok());
        for (from, to, expected) in [
            ("sha256 = \"", "sha256 = \"x", "64 hexadecimal digits"),
            ("metrics", "everything", "is no scope"),
            ("name =", "title =", "unknown field"),
            ("[[token]]", "[[token", "line 1, `[[token`"),
            ("name = \"one\"", "name = \"\"", "1 to 100 bytes"),
            ("id = \"", "id = \"é", "letters and digits"),
        ] {
            let sentence = TokensFile::parse(&good.replacen(from, to, 1)).unwrap_err();
            assert!(sentence.contains(expected), "{from}: {sentence}");
        }
        let twice = format!("{good}\n{good}");
        assert!(TokensFile::parse(&twice).unwrap_err().contains("two tokens have the id"));
        let certificate = |san: &str| {
            TokensFile::parse(&format!(
                "[[certificate]]\nname = \"w\"\nsan = [\"{san}\"]\nallow = [\"admin\"]\n"
            ))
        };
        assert!(certificate("worker").unwrap_err().contains("must begin with one of dns:"));
        assert!(certificate("dns:A.example").unwrap_err().contains("lower case"));
        for (address, is_fit) in
            [("192.0.2.1", true), ("2001:db8::1", true), ("2001:DB8:0::1", false), ("x", false)]
        {
            assert_eq!(certificate(&format!("ip:{address}")).is_ok(), is_fit, "{address}");
        }
    }

    #[test]
    fn a_file_that_everybody_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(TokensFile::read(&path).unwrap_err().to_string().contains("chmod o-w"));
    }
}
