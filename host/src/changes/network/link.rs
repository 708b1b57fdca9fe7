//! Settings of a link that are lost with its interface: alternative names, alias, queue length, and the promiscuous and
//! all-multicast modes.

use serde::{Deserialize, Serialize};

use super::ip_arguments::parse;
use crate::Error;
use crate::changes::names::names;
use crate::host_tree::HostTree;

/// Settings of a link. The default is the state of a new link, which needs no restoring.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Link {
    #[serde(default, deserialize_with = "names")]
    altnames: Vec<String>,
    #[serde(default)]
    alias: Option<String>,
    /// Length of the transmit queue, in packets; `None` in journals of older versions.
    #[serde(default)]
    tx_queue_length: Option<u32>,
    /// Whether the user, rather than a program that captures packets, made the interface promiscuous.
    #[serde(default)]
    promiscuous: bool,
    #[serde(default)]
    all_multicast: bool,
}

/// Part of the output of `ip -details -json address` for an interface.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Shown {
    flags: Vec<String>,
    txqlen: Option<u32>,
    ifalias: Option<String>,
    altnames: Vec<String>,
}

impl Link {
    /// Reads the settings from the output of `ip -details -json address show dev NAME`.
    ///
    /// # Errors
    /// The output is not the expected JSON.
    pub(super) fn parse(output: &str) -> Result<Self, String> {
        // `ip` prints an empty object for each interface that it filters out.
        let shown = parse::<Shown>(output)?.into_iter().find(|shown| !shown.flags.is_empty()).unwrap_or_default();
        let has = |flag: &str| shown.flags.iter().any(|other| other == flag);
        Ok(Self {
            promiscuous: has("PROMISC"),
            all_multicast: has("ALLMULTI"),
            altnames: shown.altnames,
            alias: shown.ifalias,
            tx_queue_length: shown.txqlen,
        })
    }

    /// Restores the settings that differ. Restores every setting, even if another setting fails.
    ///
    /// # Errors
    /// Returns the error of the first setting that cannot be restored.
    pub(super) fn restore(&self, host: &HostTree, name: &str) -> Result<(), Error> {
        let now = Self::now(host, name)?;
        let mut outcome = Ok(());
        let mut set = |key: &str, value: &str| {
            let done = host.change("ip", &["link", "set", "dev", name, key, value]);
            if outcome.is_ok() {
                outcome = done;
            }
        };
        if let Some(length) = self.tx_queue_length.filter(|_| self.tx_queue_length != now.tx_queue_length) {
            set("txqueuelen", &length.to_string());
        }
        if let Some(alias) = self.alias.as_ref().filter(|_| self.alias != now.alias) {
            set("alias", alias);
        }
        for (key, before, now) in
            [("promisc", self.promiscuous, now.promiscuous), ("allmulticast", self.all_multicast, now.all_multicast)]
        {
            if before && !now {
                set(key, "on");
            }
        }
        self.altnames.iter().fold(outcome, |outcome, altname| outcome.and(add_altname(host, name, altname)))
    }

    fn now(host: &HostTree, name: &str) -> Result<Self, Error> {
        let command = ["-details", "-json", "address", "show", "dev", name];
        let shown = host.query("ip", &command)?;
        Self::parse(&shown).map_err(|message| Error::Program { command: format!("ip {}", command.join(" ")), message })
    }
}

/// Adds an alternative name, unless the interface has it: udev adds some of them.
fn add_altname(host: &HostTree, name: &str, altname: &str) -> Result<(), Error> {
    if Link::now(host, name)?.altnames.iter().any(|other| other == altname) {
        return Ok(());
    }
    match host.change("ip", &["link", "property", "add", "dev", name, "altname", altname]) {
        // udev added the name meanwhile.
        Err(_) if Link::now(host, name)?.altnames.iter().any(|other| other == altname) => Ok(()),
        added => added,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_settings_that_a_new_link_lacks() {
        let output = r#"[{},{"ifname":"eth0","flags":["BROADCAST","MULTICAST","ALLMULTI","PROMISC","UP"],"mtu":1500,
            "txqlen":500,"promiscuity":1,"ifalias":"to the rack","altnames":["enp1s0","lan0"],"addr_info":[]}]"#;
        let expected = Link {
            altnames: vec!["enp1s0".to_owned(), "lan0".to_owned()],
            alias: Some("to the rack".to_owned()),
            tx_queue_length: Some(500),
            promiscuous: true,
            all_multicast: true,
        };
        assert_eq!(Link::parse(output).unwrap(), expected);
        let plain = r#"[{"ifname":"eth0","flags":["BROADCAST"],"txqlen":1000,"promiscuity":1}]"#;
        assert_eq!(Link::parse(plain).unwrap(), Link { tx_queue_length: Some(1000), ..Link::default() });
        assert!(Link::parse("Device does not exist").is_err());
    }
}
