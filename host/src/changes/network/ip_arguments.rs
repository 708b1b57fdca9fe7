//! Converts the output of `ip -json` to arguments of `ip` that restore addresses, routes and neighbours.

use serde::Deserialize;
use serde_json::{Map, Value};

/// Part of the output of `ip -json address` for an interface.
#[derive(Debug, Default, Deserialize)]
struct Shown {
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Debug, Deserialize)]
struct Address {
    family: Option<String>,
    local: Option<String>,
    prefixlen: Option<u8>,
    /// Peer address of a point-to-point interface.
    address: Option<String>,
    broadcast: Option<String>,
    scope: Option<String>,
    metric: Option<u32>,
    label: Option<String>,
    valid_life_time: Option<u32>,
    preferred_life_time: Option<u32>,
    #[serde(default)]
    temporary: bool,
    #[serde(default)]
    noprefixroute: bool,
    #[serde(default)]
    mngtmpaddr: bool,
    #[serde(default)]
    nodad: bool,
}

/// Lifetime of an address that never expires.
const UNLIMITED: u32 = u32::MAX;

/// Converts addresses of an interface to arguments of `ip address replace`.
///
/// # Errors
/// The output is not the expected JSON.
pub(super) fn addresses(interface: &str, output: &str) -> Result<Vec<String>, String> {
    let shown: Vec<Shown> = parse(output)?;
    let addresses = shown.into_iter().flat_map(|shown| shown.addr_info);
    Ok(addresses.filter_map(|address| address.arguments(interface)).collect())
}

impl Address {
    /// Arguments that add the address; `None` if the kernel assigns the address itself.
    fn arguments(&self, interface: &str) -> Option<String> {
        let (local, length) = (self.local.as_ref()?, self.prefixlen?);
        let is_link_local = self.family.as_deref() == Some("inet6") && self.scope.as_deref() == Some("link");
        if is_link_local || self.temporary {
            return None;
        }
        let mut arguments = match &self.address {
            Some(peer) => format!("{local} peer {peer}/{length}"),
            None => format!("{local}/{length}"),
        };
        let label = self.label.as_ref().filter(|label| *label != interface);
        for (key, value) in [("broadcast", &self.broadcast), ("scope", &self.scope), ("label", &label.cloned())] {
            if let Some(value) = value {
                arguments += &format!(" {key} {value}");
            }
        }
        if let Some(metric) = self.metric {
            arguments += &format!(" metric {metric}");
        }
        for (flag, set) in
            [("noprefixroute", self.noprefixroute), ("mngtmpaddr", self.mngtmpaddr), ("nodad", self.nodad)]
        {
            if set {
                arguments += &format!(" {flag}");
            }
        }
        if let Some(valid) = self.valid_life_time.filter(|seconds| *seconds != UNLIMITED) {
            arguments +=
                &format!(" valid_lft {valid} preferred_lft {}", self.preferred_life_time.unwrap_or(0).min(valid));
        }
        Some(arguments)
    }
}

/// Converts routes of an interface to arguments of `ip FAMILY route replace`, each after its family (`-4` or `-6`).
///
/// `prefix_routes` says whether any address has `noprefixroute`. For such an address the kernel does not create the route to its
/// network.
///
/// # Errors
/// The output is not the expected JSON, or a route has a property that this crate cannot restore.
pub(super) fn routes(family: &str, output: &str, prefix_routes: bool) -> Result<Vec<String>, String> {
    let shown: Vec<Map<String, Value>> = parse(output)?;
    let routes = shown.into_iter().filter(|route| !route.is_empty() && !is_automatic(route, prefix_routes));
    routes.map(|route| route_arguments(&route).map(|arguments| format!("{family} {arguments}"))).collect()
}

/// Whether the kernel creates the route together with an address, or a router advertises it. NetworkManager adds the route of an
/// address itself, with the protocol `kernel`.
fn is_automatic(route: &Map<String, Value>, prefix_routes: bool) -> bool {
    let is = |key, usual| route.get(key).is_none_or(|value| value == usual);
    match route.get("protocol").and_then(Value::as_str) {
        Some("ra") => true,
        Some("kernel") => {
            !prefix_routes || !is("type", "unicast") || !is("table", "main") || route.contains_key("expires")
        }
        _ => false,
    }
}

fn route_arguments(route: &Map<String, Value>) -> Result<String, String> {
    let unsupported = |what: &str| format!("it has a route with {what}: {}", Value::Object(route.clone()));
    let destination = route.get("dst").and_then(Value::as_str).ok_or_else(|| unsupported("no destination"))?;
    let mut arguments = destination.to_owned();
    for (key, value) in route {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        };
        match key.as_str() {
            "dst" | "dev" => {}
            "type" if text == "unicast" => {}
            "pref" if text == "medium" => {}
            "gateway" => arguments += &format!(" via {text}"),
            "prefsrc" => arguments += &format!(" src {text}"),
            "protocol" | "scope" | "metric" | "table" | "mtu" => arguments += &format!(" {key} {text}"),
            "flags" => {
                let flags = value.as_array().map_or(&[][..], Vec::as_slice).iter().filter_map(Value::as_str);
                if flags.clone().any(|flag| flag == "onlink") {
                    arguments += " onlink";
                }
                if let Some(flag) = flags.clone().find(|flag| !matches!(*flag, "onlink" | "linkdown" | "dead")) {
                    return Err(unsupported(flag));
                }
            }
            other => return Err(unsupported(other)),
        }
    }
    Ok(arguments)
}

/// Part of the output of `ip -json neighbour` for a neighbour.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Neighbour {
    dst: Option<String>,
    lladdr: Option<String>,
    state: Vec<String>,
    #[serde(flatten)]
    flags: Map<String, Value>,
}

/// Converts permanent neighbours of an interface to arguments of `ip neighbour replace`.
///
/// # Errors
/// The output is not the expected JSON.
pub(super) fn neighbours(output: &str) -> Result<Vec<String>, String> {
    let shown: Vec<Neighbour> = parse(output)?;
    let permanent = shown.into_iter().filter(|neighbour| neighbour.state.iter().any(|state| state == "PERMANENT"));
    Ok(permanent.filter_map(Neighbour::arguments).collect())
}

impl Neighbour {
    fn arguments(self) -> Option<String> {
        let mut arguments = self.dst?;
        if let Some(address) = self.lladdr {
            arguments += &format!(" lladdr {address}");
        }
        // `ip` prints a flag as a key without a value.
        for flag in ["router", "extern_learn"] {
            if self.flags.contains_key(flag) {
                arguments += &format!(" {flag}");
            }
        }
        Some(arguments + " nud permanent")
    }
}

pub(super) fn parse<T: for<'a> Deserialize<'a>>(output: &str) -> Result<Vec<T>, String> {
    // `ip` prints nothing for an empty list.
    if output.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(output).map_err(|error| format!("cannot parse the output of `ip -json` ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn converts_addresses_with_all_their_properties() {
        let output = r#"[{},{"ifname":"eth0","mtu":1500,"addr_info":[
            {"family":"inet","local":"192.168.101.1","prefixlen":24,"scope":"global","label":"eth0",
             "valid_life_time":4294967295,"preferred_life_time":4294967295},
            {"family":"inet","local":"10.0.0.1","prefixlen":8,"broadcast":"10.255.255.255","scope":"global","label":"eth0:1",
             "dynamic":true,"noprefixroute":true,"valid_life_time":3600,"preferred_life_time":1800},
            {"family":"inet","local":"10.2.0.1","prefixlen":16,"scope":"global","noprefixroute":true,"metric":100},
            {"family":"inet","local":"10.1.0.1","address":"10.1.0.2","prefixlen":32,"scope":"global"},
            {"family":"inet6","local":"fd00::1","prefixlen":64,"scope":"global","valid_life_time":4294967295},
            {"family":"inet6","local":"fd00::2","prefixlen":64,"scope":"global","nodad":true},
            {"family":"inet6","local":"fd00::7","prefixlen":64,"scope":"global","temporary":true},
            {"family":"inet6","local":"fe80::1","prefixlen":64,"scope":"link"}]}]"#;
        assert_eq!(
            addresses("eth0", output).unwrap(),
            [
                "192.168.101.1/24 scope global",
                "10.0.0.1/8 broadcast 10.255.255.255 scope global label eth0:1 noprefixroute valid_lft 3600 preferred_lft 1800",
                "10.2.0.1/16 scope global metric 100 noprefixroute",
                "10.1.0.1 peer 10.1.0.2/32 scope global",
                "fd00::1/64 scope global",
                "fd00::2/64 scope global nodad",
            ]
        );
        assert_eq!(addresses("eth0", "").unwrap(), Vec::<String>::new());
        assert!(addresses("eth0", "Device does not exist").is_err());
    }

    #[test]
    fn converts_simple_routes_and_rejects_others() {
        let output = r#"[{"dst":"192.168.101.0/24","protocol":"kernel","scope":"link","prefsrc":"192.168.101.1","flags":[]},
            {"dst":"10.9.0.0/16","gateway":"192.168.101.254","protocol":"static","metric":50,"flags":["onlink","linkdown"]},
            {"type":"local","dst":"192.168.101.1","table":"local","protocol":"kernel","scope":"host","flags":[]},
            {"dst":"default","gateway":"192.168.101.254","table":"100","protocol":"boot","flags":[]}]"#;
        let found = routes("-4", output, false).unwrap();
        assert_eq!(
            found,
            [
                "-4 10.9.0.0/16 onlink via 192.168.101.254 metric 50 protocol static",
                "-4 default via 192.168.101.254 protocol boot table 100",
            ]
        );
        assert_eq!(routes("-6", "[]", true).unwrap(), Vec::<String>::new());
        for odd in [
            r#"[{"dst":"10.0.0.0/8","protocol":"static","nexthops":[{}],"flags":[]}]"#,
            r#"[{"type":"blackhole","dst":"10.0.0.0/8","protocol":"static","flags":[]}]"#,
            r#"[{"dst":"10.0.0.0/8","protocol":"static","flags":["offload"]}]"#,
        ] {
            assert!(routes("-4", odd, false).unwrap_err().contains("it has a route with"), "{odd}");
        }
    }

    #[test]
    fn keeps_a_route_that_network_manager_created_for_an_address() {
        let output = r#"[{"dst":"10.2.0.0/16","protocol":"kernel","scope":"link","prefsrc":"10.2.0.1","metric":100,"flags":[]},
            {"type":"local","dst":"10.2.0.1","table":"local","protocol":"kernel","scope":"host","flags":[]},
            {"dst":"10.3.0.0/16","protocol":"kernel","table":"100","flags":[]}]"#;
        let kept = ["-4 10.2.0.0/16 metric 100 src 10.2.0.1 protocol kernel scope link"];
        assert_eq!(routes("-4", output, true).unwrap(), kept);
        assert_eq!(routes("-4", output, false).unwrap(), [""; 0]);
        let six = r#"[{"dst":"fd00::/64","protocol":"kernel","metric":256,"flags":[],"pref":"medium","expires":60},
            {"dst":"fd01::/64","protocol":"kernel","metric":100,"flags":[],"pref":"medium"},
            {"type":"multicast","dst":"ff00::/8","table":"local","protocol":"kernel","metric":256,"flags":[],"pref":"medium"}]"#;
        assert_eq!(routes("-6", six, true).unwrap(), ["-6 fd01::/64 metric 100 protocol kernel"]);
    }

    #[test]
    fn converts_permanent_neighbours() {
        let output = r#"[{"dst":"10.0.0.5","lladdr":"02:00:00:00:00:01","router":null,"state":["PERMANENT"]},
            {"dst":"fd00::5","lladdr":"02:00:00:00:00:02","state":["PERMANENT"]},
            {"dst":"10.0.0.6","lladdr":"02:00:00:00:00:03","state":["REACHABLE"]},
            {"dst":"224.0.0.1","lladdr":"01:00:5e:00:00:01","state":["NOARP"]}]"#;
        let expected = [
            "10.0.0.5 lladdr 02:00:00:00:00:01 router nud permanent",
            "fd00::5 lladdr 02:00:00:00:00:02 nud permanent",
        ];
        assert_eq!(neighbours(output).unwrap(), expected);
        assert_eq!(neighbours("").unwrap(), [""; 0]);
    }

    proptest! {
        #[test]
        fn accepts_any_text(text in ".*") {
            let _ = (addresses("eth0", &text), routes("-4", &text, true), neighbours(&text));
        }
    }
}
