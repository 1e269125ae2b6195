//! The disk in memory behaves as its table says: the tests that stand on it would prove nothing
//! otherwise.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::mem_disk::{Call, Fault, MemDisk};
use sekali::disk::{Behind, Disk, Open, read, replace};

const FILE: &str = "/data/file";

/// A disk with a durable file of 2,048 ones.
fn with_file() -> MemDisk {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new("/data")).unwrap();
    let file = disk.open(Path::new(FILE), Open::New).unwrap();
    file.write_all_at(&[1; 2_048], 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

fn is_there(disk: &MemDisk, path: &str) -> bool {
    disk.presence(Path::new(path)).unwrap()
}

fn content(disk: &MemDisk) -> Vec<u8> {
    read(disk, Path::new(FILE)).unwrap()
}

fn write(disk: &MemDisk, byte: u8, offset: u64) -> std::io::Result<()> {
    disk.open(Path::new(FILE), Open::Write).unwrap().write_all_at(&[byte; 1_024], offset)
}

#[test]
fn what_was_synced_survives_every_power_cut() {
    for seed in 0..200 {
        assert_eq!(content(&with_file().crash(seed)), [1; 2_048]);
    }
}

#[test]
fn what_was_not_synced_is_kept_lost_or_torn_in_any_part() {
    let (mut whole, mut gone, mut torn, mut reordered) = (false, false, false, false);
    for seed in 0..500 {
        let disk = with_file();
        write(&disk, 2, 0).unwrap();
        write(&disk, 3, 1_024).unwrap();
        let content = content(&disk.crash(seed));
        let count = |byte| content.iter().filter(|b| **b == byte).count();
        assert_eq!(count(1) + count(2) + count(3), 2_048);
        whole |= count(2) == 1_024 && count(3) == 1_024;
        gone |= count(1) == 2_048;
        torn |= count(2) % 512 != 0 || count(3) % 512 != 0;
        reordered |= count(2) == 0 && count(3) == 1_024;
    }
    assert!(whole && gone && torn && reordered);
}

#[test]
fn a_file_written_behind_leaves_little_to_its_last_sync() {
    static PIECE: [u8; 64 << 10] = [7; 64 << 10];
    for seed in 0..20 {
        let disk = with_file();
        let mut file = Behind::new(disk.open(Path::new(FILE), Open::Write).unwrap(), 0);
        (0..10).for_each(|_| file.write(&PIECE).unwrap());
        let after = content(&disk.crash(seed));
        assert!(
            after.len() >= 8 * PIECE.len() && after[..8 * PIECE.len()].iter().all(|byte| *byte == 7),
            "seed {seed}"
        );
    }
}

#[test]
fn a_kill_keeps_what_was_written_but_a_power_cut_after_it_may_not() {
    let disk = with_file();
    write(&disk, 2, 0).unwrap();
    let killed = disk.kill();
    assert_eq!(content(&killed)[..1_024], [2; 1_024]);
    let outcomes = (0..100).map(|seed| {
        let disk = with_file();
        write(&disk, 2, 0).unwrap();
        content(&disk.kill().crash(seed))[0]
    });
    assert_eq!(outcomes.collect::<BTreeSet<_>>(), BTreeSet::from([1, 2]));
}

#[test]
fn the_old_disk_is_dead_after_its_end() {
    let disk = with_file();
    let file = disk.open(Path::new(FILE), Open::Write).unwrap();
    let _after = disk.kill();
    assert_eq!(file.write_all_at(b"x", 0).unwrap_err().raw_os_error(), Some(5));
    assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(5));
    assert!(disk.open(Path::new(FILE), Open::Read).is_err() && disk.presence(Path::new(FILE)).is_err());
}

#[test]
fn names_are_durable_once_their_directory_is_synced() {
    let outcomes: BTreeSet<_> = (0..50)
        .map(|seed| {
            let disk = with_file();
            disk.open(Path::new("/data/new"), Open::New).unwrap().sync().unwrap();
            disk.remove_file(Path::new(FILE)).unwrap();
            let after = disk.crash(seed);
            (is_there(&after, "/data/new"), is_there(&after, FILE))
        })
        .collect();
    // In order: never the removal without the creation before it.
    assert_eq!(outcomes, BTreeSet::from([(false, true), (true, true), (true, false)]));
    let disk = with_file();
    disk.open(Path::new("/data/new"), Open::New).unwrap();
    disk.sync_dir(Path::new("/data")).unwrap();
    assert!(is_there(&disk.crash(1), "/data/new"));
}

#[test]
fn a_file_in_a_directory_that_was_lost_is_lost() {
    let lost = (0..50).filter(|seed| {
        let disk = with_file();
        disk.create_dir_all(Path::new("/data/a/b")).unwrap();
        disk.open(Path::new("/data/a/b/c"), Open::New).unwrap();
        disk.sync_dir(Path::new("/data/a/b")).unwrap();
        !is_there(&disk.crash(*seed), "/data/a/b/c")
    });
    assert!((1..50).contains(&lost.count()));
}

#[test]
fn a_replaced_file_is_the_old_or_the_new_one_whole() {
    for seed in 0..100 {
        let disk = with_file();
        disk.plan(Fault::DeadAtSync { at: disk.syncs() + seed % 3 });
        let done = replace(&disk, Path::new(FILE), b"new").is_ok();
        let content = content(&disk.crash(seed));
        assert!(content == b"new" || (content == [1; 2_048] && !done), "seed {seed}");
    }
}

#[test]
fn a_replacement_that_fails_leaves_nothing_beside_the_old_file() {
    let disk = with_file();
    for fault in [Fault::Write { at: disk.writes(), kept: 1 }, Fault::Sync { at: disk.syncs() }] {
        disk.plan(fault);
        replace(&disk, Path::new(FILE), b"new").unwrap_err();
        assert_eq!(disk.list(Path::new("/data")).unwrap(), ["file"], "{fault:?}");
        assert_eq!(content(&disk), [1; 2_048], "{fault:?}");
    }
    replace(&disk, Path::new(FILE), b"new").unwrap();
    assert_eq!(content(&disk), b"new");
}

#[test]
fn a_failed_sync_is_not_mended_by_a_second_one() {
    let disk = with_file();
    let file = disk.open(Path::new(FILE), Open::Write).unwrap();
    disk.plan(Fault::Sync { at: disk.syncs() });
    for n in 0..4 {
        file.write_all_at(&[2; 512], n * 512).unwrap();
    }
    assert!(file.sync().is_err());
    file.sync().unwrap();
    assert_eq!(content(&disk), [2; 2_048]);
    assert!(content(&disk.crash(1)).contains(&1));
}

#[test]
fn a_planned_write_fails_and_may_leave_a_part() {
    let disk = with_file();
    disk.plan(Fault::Write { at: disk.writes() + 1, kept: 10 });
    write(&disk, 2, 0).unwrap();
    assert_eq!(write(&disk, 3, 1_024).unwrap_err().raw_os_error(), Some(5));
    assert_eq!(content(&disk)[1_024..1_036], [3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 1, 1]);
    write(&disk, 3, 1_024).unwrap();
    disk.plan(Fault::DeadAtWrite { at: disk.writes(), kept: 0 });
    assert!(write(&disk, 4, 0).is_err());
    assert!(disk.list(Path::new("/data")).is_err());
}

#[test]
fn a_full_disk_refuses_growth_only_and_takes_it_again_after_room_is_made() {
    let disk = with_file();
    disk.set_capacity(Some(2_560));
    assert_eq!(disk.free_bytes(Path::new("/data")).unwrap(), 512);
    assert_eq!(write(&disk, 2, 2_048).unwrap_err().raw_os_error(), Some(28));
    write(&disk, 2, 1_536).unwrap();
    disk.remove_file(Path::new(FILE)).unwrap();
    assert_eq!(disk.free_bytes(Path::new("/data")).unwrap(), 2_560);
}

#[test]
fn a_lock_is_held_by_one_and_freed_by_its_guard_or_a_kill() {
    let disk = with_file();
    let path = Path::new("/data/LOCK");
    let guard = disk.lock(path).unwrap();
    assert_eq!(disk.lock(path).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(guard);
    let _guard = disk.lock(path).unwrap();
    // Another file of this name is not the one that is taken; the directory stays the same.
    let _dir = disk.lock_dir(Path::new("/data")).unwrap();
    disk.remove_file(path).unwrap();
    assert!(disk.lock(path).is_ok());
    assert_eq!(disk.lock_dir(Path::new("/data")).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    disk.kill().lock(path).unwrap();
}

#[test]
fn a_directory_made_again_after_its_removal_keeps_what_was_synced_in_it() {
    for seed in 0..50 {
        let disk = with_file();
        disk.remove_dir_all(Path::new("/data")).unwrap();
        disk.create_dir_all(Path::new("/data")).unwrap();
        disk.open(Path::new(FILE), Open::New).unwrap();
        disk.sync_dir(Path::new("/data")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        assert_eq!(content(&disk.crash(seed)), b"");
    }
}

#[test]
fn a_planned_call_fails_once_and_does_nothing() {
    let (dir, file) = (Path::new("/data"), Path::new(FILE));
    for call in Call::ALL {
        let disk = with_file();
        let act = |disk: &MemDisk| match call {
            Call::Presence => disk.presence(file).map(drop),
            Call::List => disk.list(dir).map(drop),
            Call::Open => disk.open(Path::new("/data/new"), Open::New).map(drop),
            Call::CreateDir => disk.create_dir_all(Path::new("/data/more")),
            Call::Rename => disk.rename(file, Path::new("/data/other")),
            Call::Remove => disk.remove_file(file),
            Call::Lock => disk.lock(Path::new("/data/LOCK")).map(drop),
            Call::Length => disk.open(file, Open::Read)?.len().map(drop),
            Call::Read => disk.open(file, Open::Read)?.read_at(&mut [0], 0).map(drop),
            Call::SetLength => disk.open(file, Open::Write)?.set_len(1),
            Call::Free => disk.free_bytes(dir).map(drop),
        };
        disk.plan(Fault::Call { call, at: disk.calls(call), code: 13 });
        let before = disk.files();
        assert_eq!(act(&disk).unwrap_err().raw_os_error(), Some(13), "{call:?}");
        assert_eq!((disk.files(), content(&disk), disk.failed_calls()), (before, vec![1; 2_048], 1));
        act(&disk).unwrap();
    }
}

#[test]
fn a_disk_goes_dead_at_any_operation() {
    let disk = with_file();
    disk.plan(Fault::DeadAt { at: disk.operations() + 2 });
    assert!(is_there(&disk, FILE) && disk.list(Path::new("/data")).is_ok());
    assert!(disk.rename(Path::new(FILE), Path::new("/data/other")).is_err());
    assert!(disk.presence(Path::new(FILE)).is_err() && is_there(&disk.kill(), FILE));
}

#[test]
fn a_renamed_directory_takes_with_it_what_is_in_it() {
    let (from, to) = (Path::new("/data/a"), Path::new("/data/b"));
    let outcomes: BTreeSet<_> = (0..50)
        .map(|seed| {
            let disk = with_file();
            disk.create_dir_all(from).unwrap();
            disk.open(&from.join("file"), Open::New).unwrap();
            disk.sync_dir(from).unwrap();
            disk.sync_dir(Path::new("/data")).unwrap();
            disk.rename(from, to).unwrap();
            assert!(is_there(&disk, "/data/b/file") && !is_there(&disk, "/data/a"));
            let after = disk.crash(seed);
            (is_there(&after, "/data/a/file"), is_there(&after, "/data/b/file"))
        })
        .collect();
    assert_eq!(outcomes, BTreeSet::from([(true, false), (false, true)]));
}

#[test]
fn a_new_file_is_made_in_nothings_place() {
    let disk = with_file();
    let error = disk.open(Path::new(FILE), Open::New).unwrap_err();
    assert_eq!((error.kind(), content(&disk)), (std::io::ErrorKind::AlreadyExists, vec![1; 2_048]));
}
