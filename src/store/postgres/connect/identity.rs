//! What a database is known by.

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// For whom commits wait.
pub(crate) const STANDBYS: &str = "SELECT current_setting('synchronous_standby_names')";

/// When the server was started, which no other one was: a standby that becomes the primary has a time
/// of its own.
pub(crate) const SERVER: &str = "SELECT pg_postmaster_start_time()";

/// Which database of which store it is. A new one in its place has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) store: u128,
    pub(crate) key: u128,
    pub(crate) database: u128,
}

/// What [`Identity::of`] looks at, and the version of the schema.
pub(crate) const IDENTITY: &str = "
    SELECT s.store_id, s.hash_key, s.database_id, (SELECT max(version) FROM sekali_schema) FROM sekali_store s";

impl Identity {
    /// The one in these rows.
    pub(crate) fn of(rows: &[Row]) -> Option<Self> {
        let row = rows.first()?;
        let number = |column| row.get::<_, Uuid>(column).0;
        Some(Self { store: number(0), key: number(1), database: number(2) })
    }
}

/// Sixteen bytes of the type `uuid`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uuid(pub(crate) u128);

impl ToSql for Uuid {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(&self.0.to_be_bytes());
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::UUID
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Uuid {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(u128::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::UUID
    }
}
