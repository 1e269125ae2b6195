//! A primary with two standbys, one of which must have each commit.

use super::cluster;
use crate::support::postgres::Postgres;
use crate::support::until;

const NAMES: [&str; 2] = ["one", "two"];
const QUORUM: &str = "synchronous_standby_names = 'ANY 1 (one, two)'";

pub struct Group {
    pub primary: Postgres,
    standbys: [Postgres; 2],
}

/// Waits until so many standbys have what the primary has.
fn connected(primary: &Postgres, standbys: i64) {
    let mut client = primary.client("postgres");
    let query = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
    let are_there =
        until(60, || (client.query_one(query, &[]).ok()?.get::<_, i64>(0) == standbys).then_some(()));
    assert!(are_there.is_some(), "the standbys do not follow: {}", primary.log());
}

fn ask_for_quorum(primary: &Postgres) {
    let mut admin = primary.client("postgres");
    admin.batch_execute(&format!("ALTER SYSTEM SET {QUORUM}")).unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").unwrap();
}

impl Group {
    /// A group with this database, if this machine can have one.
    pub fn with(database: &str) -> Option<Self> {
        let primary = cluster("")?;
        primary.create(database);
        let standbys = NAMES.map(|name| Postgres::standby_of(&primary, name).unwrap());
        connected(&primary, 2);
        ask_for_quorum(&primary);
        Some(Self { primary, standbys })
    }

    /// The URL of a database, with all servers.
    pub fn url(&self, database: &str) -> String {
        let hosts = [&self.primary, &self.standbys[0], &self.standbys[1]].map(Postgres::host).join(",");
        format!("postgres://postgres@{hosts}/{database}")
    }

    /// Has the standbys receive nothing more from the primary.
    pub fn cut_off_standbys(&self) {
        self.standbys.iter().for_each(Postgres::follow_nobody);
        connected(&self.primary, 0);
    }

    /// Kills the primary, and has a standby take its place.
    pub fn fail_over(&mut self) {
        self.primary.kill();
        self.replace();
    }

    /// The same, and the primary is killed when another one is there already.
    pub fn fail_over_late(&mut self) {
        let replaced = self.replace();
        self.standbys[replaced].kill();
    }

    /// Has a standby take the place of the primary; the place of that from then on.
    fn replace(&mut self) -> usize {
        // The one that has more has all that was acknowledged, as each commit is on one of them.
        let [one, two] = &self.standbys;
        let next = usize::from(one.received() < two.received());
        let other = 1 - next;
        self.standbys[next].promote();
        ask_for_quorum(&self.standbys[next]);
        self.standbys[other].follow(&self.standbys[next], NAMES[other]);
        connected(&self.standbys[next], 1);
        std::mem::swap(&mut self.primary, &mut self.standbys[next]);
        next
    }

    /// Has new standbys in the place of servers that are lost; nodes must be told of them.
    pub fn mend(&mut self) {
        for (standby, name) in self.standbys.iter_mut().zip(NAMES) {
            if !standby.is_running() {
                *standby = Postgres::standby_of(&self.primary, name).unwrap();
            }
        }
        connected(&self.primary, 2);
    }
}
