//! Groups of servers, each with some slots of the store.

use serde::Deserialize;

use super::slots::Slots;
use super::store_url::StoreUrl;
use crate::limits::DATABASE_SLOTS;

/// A group of servers that holds part of the store: a `[[group]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The slots that it holds.
    pub slots: Slots,
    /// Its database.
    pub store: StoreUrl,
}

impl Group {
    /// What is wrong with these groups, in a sentence.
    pub(super) fn fault(groups: &[Self]) -> Option<String> {
        for (number, group) in (1..).zip(groups) {
            if let Err(fault) = group.store.connections() {
                return Some(format!("store of [[group]] number {number}: {fault}"));
            }
        }
        let owners = |slot: usize| groups.iter().filter(|group| group.slots.contains(slot)).count();
        let of = |count: fn(usize) -> bool| (0..DATABASE_SLOTS).filter(|slot| count(owners(*slot))).collect();
        let (lost, twice): (Slots, Slots) = (of(|owners| owners == 0), of(|owners| owners > 1));
        let most = DATABASE_SLOTS - 1;
        let rule = format!("give each of the slots 0-{most} to one of them");
        if !lost.is_empty() {
            return Some(format!("no [[group]] has the slots {lost}: {rule}"));
        }
        (!twice.is_empty()).then(|| format!("more than one [[group]] has the slots {twice}: {rule}"))
    }
}
