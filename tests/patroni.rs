//! A group of servers as it is to be run: PostgreSQL under Patroni with quorum standbys and etcd, on three
//! machines, with three nodes of the service. Machines are killed, stopped and cut off.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::nothing_mounted;
use crate::support::checker::{check, expect_clean};
use crate::support::client::Client;
use crate::support::load::{Run, Workload};
use crate::support::patroni::{Machine, Machines, isolated, slowly};
use crate::support::process::{Server, Start};
use crate::support::reader::HttpReader;
use crate::support::relay::Relay;
use crate::support::{rounds, seed};

/// Clients of the load.
const CLIENTS: u64 = 9;

/// What is done to the machines.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The machine of the primary loses its power.
    Killed,
    /// The primary is cut off from the others, and clients reach it still.
    CutOff,
    /// All of its network is gone.
    Unplugged,
    /// Its processes stand still for longer than its lease, and go on.
    Stopped,
    /// PostgreSQL alone stands still on the primary's machine.
    DatabaseStopped,
    /// A standby stands still.
    StandbyStopped,
    /// The machine of a standby loses its power.
    StandbyKilled,
    /// Both standbys are cut off, so that nothing can be acknowledged.
    QuorumLost,
    /// All three lose their power.
    AllKilled,
    /// A node of the service stands still, and goes on after its statements and leases are over.
    NodeStopped,
}

const FAULTS: [Fault; 10] = [
    Fault::Killed,
    Fault::Stopped,
    Fault::CutOff,
    Fault::QuorumLost,
    Fault::DatabaseStopped,
    Fault::AllKilled,
    Fault::Unplugged,
    Fault::StandbyStopped,
    Fault::StandbyKilled,
    Fault::NodeStopped,
];

/// Longer than the primary's lease, after which a standby takes over.
const LEASE: Duration = Duration::from_secs(22);

fn start(dir: &Path, url: &str) -> Start {
    let mut start = Start::tiny_generations(&dir.join("unused"));
    start.env = vec![("SEKALI_STORE".into(), url.into())];
    start
}

/// Plays a fault and heals it; whether the load goes on meanwhile is for `during` to say.
fn play(fault: Fault, machines: &Machines, node: &Server, during: &mut dyn FnMut(&Machine)) {
    let primary = machines.primary();
    let others: Vec<&Machine> =
        machines.0.iter().filter(|machine| machine.number != primary.number).collect();
    match fault {
        Fault::Killed => {
            primary.kill();
            during(primary);
            primary.run();
        }
        Fault::CutOff | Fault::Unplugged => {
            let networks: &[u8] = if matches!(fault, Fault::CutOff) { &[78] } else { &[77, 78] };
            networks.iter().for_each(|network| primary.link(*network, false));
            during(primary);
            networks.iter().for_each(|network| primary.link(*network, true));
        }
        Fault::Stopped | Fault::DatabaseStopped => {
            let name = if matches!(fault, Fault::Stopped) { "" } else { "postgres" };
            assert!(primary.signal(name, "STOP") > 0, "nothing was stopped");
            during(primary);
            primary.signal(name, "CONT");
        }
        Fault::StandbyStopped => {
            assert!(others[0].signal("", "STOP") > 0, "nothing was stopped");
            during(primary);
            others[0].signal("", "CONT");
        }
        Fault::StandbyKilled => {
            others[0].kill();
            during(primary);
            others[0].run();
        }
        Fault::QuorumLost => {
            others.iter().for_each(|other| other.link(78, false));
            during(primary);
            others.iter().for_each(|other| other.link(78, true));
        }
        Fault::AllKilled => {
            machines.0.iter().for_each(Machine::kill);
            machines.0.iter().for_each(Machine::run);
        }
        Fault::NodeStopped => {
            node.signal(Signal::STOP);
            during(primary);
            node.signal(Signal::CONT);
        }
    }
}

/// While a primary has no standby that answers, no request is answered with 200, be its events new
/// or known, and a node says why.
fn expect_refusal(run: &Run, addrs: &[std::net::SocketAddr], servers: &[Server]) {
    let mut client = Client::new(addrs[0]);
    let is_told = slowly(30, || {
        let ready = client.get("/readyz").ok()?;
        (ready.status == 503).then(|| String::from_utf8_lossy(&ready.body).into_owned())
    });
    let why = is_told.unwrap_or_else(|| panic!("a node is ready without a quorum: {}", servers[0].log()));
    eprintln!("without a quorum /readyz says {why}");
    let acknowledged = run.acknowledged_more_within(1, LEASE);
    assert!(!acknowledged, "something was acknowledged without a quorum: {}", servers[0].log());
}

/// The load goes on by itself, through a new primary.
fn expect_takeover(
    run: &Run,
    begun: std::time::Instant,
    fault: Fault,
    servers: &[Server],
    machines: &Machines,
) {
    let fresh = run.acknowledged_more_within(60, Duration::from_secs(90));
    assert!(fresh, "{fault:?}: {}\n{}", servers[0].log(), machines.logs());
    eprintln!("{fault:?}: 60 more requests were answered after {:.1} s", begun.elapsed().as_secs_f32());
}

#[test]
fn whatever_happens_to_machines_nothing_that_was_answered_is_lost() {
    let _alone = nothing_mounted();
    let Some(dir) = isolated("patroni::whatever_happens_to_machines_nothing_that_was_answered_is_lost")
    else {
        return;
    };
    let machines = Machines::start(&dir);
    let created = slowly(30, || {
        let url = machines.url("postgres") + "?target_session_attrs=read-write";
        let mut admin = postgres::Client::connect(&url, postgres::NoTls).ok()?;
        admin.batch_execute("CREATE DATABASE events TEMPLATE template0").ok()
    });
    assert!(created.is_some(), "no database can be made: {}", machines.logs());
    let start = start(&dir, &machines.url("events"));
    let (servers, addrs): (Vec<Server>, Vec<_>) = (0..3).map(|_| start.ready().unwrap()).unzip();
    let relay = Relay::among(addrs.clone());
    let (seed, rounds) = (seed(), rounds("SEKALI_PATRONI_FAULTS"));
    let mut workload = Workload::new(seed);
    for (round, fault) in FAULTS.into_iter().cycle().enumerate().take(rounds as usize) {
        let run = workload.start(relay.addr, CLIENTS);
        assert!(run.acknowledged(60), "round {round}: {}", servers[0].log());
        let begun = crate::support::now();
        // What it holds afterwards is read through the node that may have stood still.
        let node = round % 3;
        play(fault, &machines, &servers[node], &mut |_| match fault {
            Fault::QuorumLost => expect_refusal(&run, &addrs, &servers),
            Fault::NodeStopped => {
                expect_takeover(&run, begun, fault, &servers, &machines);
                slowly(LEASE.as_secs(), || None::<()>);
            }
            _ => expect_takeover(&run, begun, fault, &servers, &machines),
        });
        machines.whole();
        expect_takeover(&run, begun, fault, &servers, &machines);
        run.stop();
        let mut reader = HttpReader::new(addrs[node]);
        let violations = workload.history(|history| check(history, &mut reader, seed));
        let when = format!("after {fault:?}, round {round}");
        expect_clean(&violations, seed, &when, &format!("{}\n{}", servers[0].log(), machines.logs()));
    }
    eprintln!("{rounds} faults of machines, no violation (SEKALI_SEED={seed})");
    for mut server in servers {
        assert_eq!(server.terminate(), Some(0), "{}", server.log());
    }
}
