//! Validates the names in a journal. They become components of paths in sysfs and arguments of programs that run as root.

use serde::de::{Deserialize, Deserializer, Error as _, Unexpected};

/// Reads the name of a driver, a domain type, an interface or an RDMA device.
pub(super) fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    checked::<D>(String::deserialize(deserializer)?)
}

/// Reads a name that may be absent.
pub(super) fn optional_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)?.map(checked::<D>).transpose()
}

/// Reads a list of names.
pub(super) fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Vec::deserialize(deserializer)?.into_iter().map(checked::<D>).collect()
}

/// Reads the kind and the interface of a software RDMA device.
pub(super) fn optional_pair<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<(String, String)>, D::Error> {
    let pair: Option<(String, String)> = Option::deserialize(deserializer)?;
    pair.map(|(kind, interface)| Ok((checked::<D>(kind)?, checked::<D>(interface)?))).transpose()
}

/// Reads routes of the form `-4 ROUTE` or `-6 ROUTE`. `ip` would take any other first word as an option.
pub(super) fn routes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let routes = Vec::<String>::deserialize(deserializer)?;
    match routes.iter().find(|route| !(route.starts_with("-4 ") || route.starts_with("-6 "))) {
        Some(route) => Err(D::Error::invalid_value(Unexpected::Str(route), &"a route after -4 or -6")),
        None => Ok(routes),
    }
}

fn checked<'de, D: Deserializer<'de>>(name: String) -> Result<String, D::Error> {
    if is_name(&name) { Ok(name) } else { Err(D::Error::invalid_value(Unexpected::Str(&name), &"a name")) }
}

/// Whether a text is a single path component, so that a path with it stays below its directory.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 255 && text != "." && text != ".." && !text.contains(['/', '\0', '\n'])
}

#[cfg(test)]
mod tests {
    use crate::changes::{Change, StateDir, journal::Journal};
    use crate::testing::Fixture;
    use crate::{Error, restore};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::path::{Component, Path};

    /// A journal with each kind of change that contains names, and the JSON pointer of every name in it.
    fn journal() -> (Value, Vec<String>) {
        let network = json!({
            "interfaces": [{"name": "eth0", "port": 0, "mac": "52:54:00:00:00:02", "mtu": "1500", "up": true,
                "link": {"altnames": ["enp2s0"], "alias": "any / text", "tx_queue_length": 1000},
                "addresses": ["10.0.0.1/8"], "routes": ["-4 10.9.0.0/16 via 10.0.0.2"], "neighbours": []}],
            "rdma": [{"name": "rxe0", "software": ["rxe", "eth0"], "active": true}],
        });
        let changes = [
            json!({"kind": "driver", "driver": "e1000e", "driver_override": "e1000e", "network": network}),
            json!({"kind": "rebound", "driver": "vfio-pci"}),
            json!({"kind": "domain", "group": 9, "type": "DMA-FQ",
                "members": [{"bdf": "0000:02:00.0", "driver": "e1000e", "network": network}]}),
        ];
        let owner = json!({"kind": "bind", "pid": 7, "start_time_ticks": 8});
        let entries: Vec<_> = changes
            .iter()
            .map(|change| json!({"bdf": "0000:02:00.0", "change": change, "owner": owner, "boot_id": "this boot"}))
            .collect();
        let of_network = ["interfaces/0/name", "interfaces/0/mac", "interfaces/0/mtu", "interfaces/0/link/altnames/0"];
        let of_rdma = ["rdma/0/name", "rdma/0/software/0", "rdma/0/software/1"];
        let mut places: Vec<_> = ["0/change/driver", "0/change/driver_override", "1/change/driver", "2/change/type"]
            .map(str::to_owned)
            .into();
        for above in ["0/change", "2/change/members/0"] {
            places.extend([&of_network[..], &of_rdma].concat().iter().map(|name| format!("{above}/network/{name}")));
        }
        places.push("2/change/members/0/driver".to_owned());
        let places = places.into_iter().map(|place| format!("/entries/{place}")).collect();
        (json!({"version": 1, "entries": entries}), places)
    }

    fn read(journal: &Value) -> Result<usize, Error> {
        let base = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&base.path().join("state")).unwrap();
        std::fs::write(dir.file("journal.json"), journal.to_string()).unwrap();
        let entries = Journal::new(dir).entries()?;
        Ok(entries.iter().filter(|entry| !matches!(entry.change, Change::Acs(_))).count())
    }

    #[test]
    fn reads_every_change() {
        assert_eq!(read(&journal().0).unwrap(), 3);
    }

    #[test]
    fn never_writes_outside_of_the_directory_of_drivers() {
        let fixture = Fixture::new();
        fixture.function("0000:02:00.0").group(9);
        // Reached through sys/bus/pci/drivers/../../tmp/x.
        fixture.file("sys/bus/tmp/x/bind", "untouched");
        let (mut journal, _) = journal();
        journal["entries"][0]["change"]["driver"] = json!("../../tmp/x");
        let options = fixture.options();
        StateDir::open(&options.state_dir).unwrap();
        std::fs::write(options.state_dir.join("journal.json"), journal.to_string()).unwrap();
        let refused = restore(&options);
        assert!(matches!(refused, Err(Error::BadJournal { .. })), "{refused:?}");
        assert_eq!(fixture.read("sys/bus/tmp/x/bind"), "untouched");
    }

    #[test]
    fn rejects_options_in_place_of_the_family_of_a_route() {
        let (mut journal, _) = journal();
        let routes = "/entries/0/change/network/interfaces/0/routes";
        *journal.pointer_mut(routes).unwrap() = json!(["-batch /tmp/x"]);
        assert!(matches!(read(&journal), Err(Error::BadJournal { .. })));
    }

    proptest! {
        #[test]
        fn accepts_only_components_of_paths_as_names(
            text in prop_oneof![".*", "(\\.\\./){1,3}[a-z]{0,3}", "[a-z/.]{0,4}"],
            place in 0..19_usize,
        ) {
            let (mut journal, places) = journal();
            assert_eq!(places.len(), 19);
            *journal.pointer_mut(&places[place]).unwrap() = json!(text);
            let path = Path::new("/sys").join(&text);
            let is_component = Path::new(&text).components().eq([Component::Normal(text.as_ref())])
                && path.parent() == Some(Path::new("/sys"));
            // A trailing slash or `/.` is not part of a component.
            let is_component = is_component && !text.contains('/') && !text.contains(['\0', '\n']) && text.len() <= 255;
            prop_assert_eq!(read(&journal).is_ok(), is_component, "{:?} at {}", text, places[place]);
        }
    }
}
