//! Targets: `KIND:ADDRESS`.

use peerpath_paths::{Bdf, Explained, Explanation, Severity};

use crate::{Discovered, Error, IMPORTERS, Importer};

/// Error: the text does not name a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a target")]
pub struct ParseTargetError {
    text: String,
    /// Target forms of the known importers.
    forms: Vec<&'static str>,
}

impl Explained for ParseTargetError {
    fn explanation(&self) -> Explanation {
        if self.forms.is_empty() {
            return Explanation::uncaused(
                "There are no importers.",
                "Build with the feature `verbs-dlopen` or `verbs-link`.",
            );
        }
        Explanation::uncaused(
            "A target has the form KIND:ADDRESS.",
            format!("Use one of these forms: {}.", self.forms.join(", ")),
        )
    }

    fn severity(&self) -> Severity {
        Severity::BadInput
    }
}

/// Splits `KIND:ADDRESS` into the built-in importer of that kind and the address.
///
/// # Errors
/// The text has no colon, or no importer has that kind.
pub fn parse_target(text: &str) -> Result<(&'static dyn Importer, &str), Error> {
    parse_target_among(IMPORTERS, text)
}

/// Splits `KIND:ADDRESS` into the importer of that kind and the address, which only the importer interprets.
///
/// # Errors
/// The text has no colon, or none of `importers` has that kind.
pub fn parse_target_among<'a>(
    importers: &[&'static dyn Importer],
    text: &'a str,
) -> Result<(&'static dyn Importer, &'a str), Error> {
    let split = text.split_once(':').and_then(|(kind, address)| {
        let importer = importers.iter().find(|importer| importer.kind() == kind)?;
        Some((*importer, address))
    });
    split.ok_or_else(|| {
        let forms = importers.iter().map(|importer| importer.usage().form).collect();
        Error::new(ParseTargetError { text: text.chars().take(64).collect(), forms })
    })
}

/// Finds the targets that a name without its kind can mean: devices with this name, or on this PCI function. A port or a
/// mechanism after the name (`mlx5_0/2`) is kept.
pub fn targets_named(discovered: &[Discovered], text: &str) -> Vec<String> {
    let end = text.find(['/', '?']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let function = name.parse::<Bdf>().ok();
    let is_meant = |device: &&Discovered| {
        let address = device.target.split_once(':').map(|(_, address)| address);
        address == Some(name) || (function.is_some() && device.bdf == function)
    };
    discovered.iter().filter(is_meant).map(|device| format!("{}{rest}", device.target)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_unknown_kinds() {
        for text in ["", ":", "verbs", "nonsense:rxe0", " verbs:rxe0", "verbs/rxe0", "VERBS:rxe0"] {
            let Err(error) = parse_target(text) else { panic!("{text:?} was accepted as a target") };
            assert_eq!(error.severity(), Severity::BadInput);
            assert!(!error.explanation().remedy.is_empty());
        }
    }

    #[test]
    fn finds_the_devices_that_a_name_without_its_kind_means() {
        let device = |target: &str, bdf: Option<&str>| Discovered {
            target: target.to_owned(),
            bdf: bdf.map(|bdf| bdf.parse().unwrap()),
        };
        let discovered = [
            device("verbs:mlx5_0", Some("0000:03:00.0")),
            device("verbs:mlx5_1", Some("0000:03:00.0")),
            device("verbs:rxe0", None),
            device("iommufd:0000:05:00.0", Some("0000:05:00.0")),
        ];
        for (text, targets) in [
            ("mlx5_0", &["verbs:mlx5_0"][..]),
            ("mlx5_0/2", &["verbs:mlx5_0/2"]),
            ("0000:03:00.0", &["verbs:mlx5_0", "verbs:mlx5_1"]),
            ("05:00.0", &["iommufd:0000:05:00.0"]),
            ("05:00.0?write=0+8", &["iommufd:0000:05:00.0?write=0+8"]),
            ("rxe", &[]),
            ("", &[]),
        ] {
            assert_eq!(targets_named(&discovered, text), targets, "{text}");
        }
    }

    #[test]
    fn leaves_the_address_to_the_importer() {
        for importer in IMPORTERS {
            let text = format!("{}:a:b/c", importer.kind());
            let (found, address) = parse_target(&text).unwrap();
            assert_eq!((found.kind(), address), (importer.kind(), "a:b/c"));
        }
    }

    #[test]
    fn finds_only_the_given_importers() {
        let Err(error) = parse_target_among(&[], "iommufd:x") else { panic!("found an importer in an empty list") };
        assert!(error.explanation().why.contains("no importers"));
    }
}
