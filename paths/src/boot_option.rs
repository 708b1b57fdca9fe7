//! Kernel boot options as text for the user.

/// The option that clears the ACS redirect bits of functions at boot, with the quotes that GRUB needs.
pub(crate) fn without_redirect(functions: &[String]) -> String {
    for_grub(&format!("pci=disable_acs_redir={}", functions.join(";")))
}

/// Returns a boot option as text. If the option contains `;`, the text also shows the option with the quotes that GRUB needs:
/// GRUB ends a command at an unquoted `;`.
pub(crate) fn for_grub(option: &str) -> String {
    if option.contains(';') {
        format!("{option}, in GRUB's configuration in single quotes: '{option}'")
    } else {
        option.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_a_list_for_grub() {
        let ports = |ports: &[&str]| without_redirect(&ports.iter().map(|port| (*port).to_owned()).collect::<Vec<_>>());
        assert_eq!(ports(&["0000:02:00.0"]), "pci=disable_acs_redir=0000:02:00.0");
        assert!(
            ports(&["0000:02:00.0", "0000:02:01.0"]).ends_with("'pci=disable_acs_redir=0000:02:00.0;0000:02:01.0'")
        );
    }
}
