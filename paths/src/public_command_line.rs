//! The part of the kernel command line that may leave the host: in a snapshot, a result, a report, or to a peer.
//!
//! A command line may contain anything: passwords (`iscsi_password=`, `systemd.set_credential=`), URLs with a password, disk and
//! network identifiers. This module therefore lists the public parameters and omits all others.

use crate::{CommandLine, doctor};

/// Public parameters in addition to those of the check `boot-options`: those that other checks and predictions read, and those
/// that change timings. Names have underscores in place of dashes. A name that ends with a dot matches all parameters of a
/// module.
const PUBLIC: &[&str] = &[
    // PCI, IOMMU, DMA and VFIO.
    "acpi",
    "amdgpu.pcie_p2p",
    "arm_smmu.",
    "arm_smmu_v3.",
    "coherent_pool",
    "dma_buf_mapping.",
    "dma_debug",
    "iommufd.",
    "mem_encrypt",
    "nvidia.nvreg_enablestreammemops",
    "nvidia.nvreg_registrydwords",
    "nvidia_peermem.",
    "pcie_aspm.policy",
    "swiotlb",
    "udmabuf.",
    "vfio.",
    "vfio_iommu_spapr_tce.",
    "vfio_iommu_type1.",
    "vfio_pci.",
    "vfio_pci_core.",
    "xen_pciback.",
    // Memory.
    "cma",
    "debug_pagealloc",
    "default_hugepagesz",
    "hugepages",
    "hugepagesz",
    "hugetlb_cma",
    "hugetlb_free_vmemmap",
    "init_on_alloc",
    "init_on_free",
    "kasan",
    "kfence.sample_interval",
    "maxcpus",
    "mem",
    "memmap",
    "movablecore",
    "numa",
    "numa_balancing",
    "page_poison",
    "slab_nomerge",
    "slub_debug",
    "transparent_hugepage",
    // Processors, their frequency, and interrupts.
    "amd_pstate",
    "clocksource",
    "cpufreq.default_governor",
    "cpuidle.off",
    "highres",
    "idle",
    "intel_idle.max_cstate",
    "intel_pstate",
    "irqaffinity",
    "isolcpus",
    "kthread_cpus",
    "mitigations",
    "nmi_watchdog",
    "no_timer_check",
    "nohz",
    "nohz_full",
    "nosmt",
    "nosoftlockup",
    "nox2apic",
    "nr_cpus",
    "nvme.poll_queues",
    "nvme.use_threaded_interrupts",
    "pti",
    "preempt",
    "processor.max_cstate",
    "rcu_nocb_poll",
    "rcu_nocbs",
    "rcupdate.rcu_cpu_stall_timeout",
    "rcutree.rcu_idle_gp_delay",
    "skew_tick",
    "spec_store_bypass_disable",
    "spectre_v2",
    "threadirqs",
    "tsc",
    "workqueue.power_efficient",
    "x2apic_phys",
];

/// Returns the public parameters of a kernel command line, in order. Predictions, and the checks of [`doctor`], give the same
/// results with this text as with the whole command line.
///
/// ```
/// let text = "root=UUID=12 iscsi_password=secret intel-iommu=on isolcpus=2-5 -- 192.0.2.7";
/// assert_eq!(peerpath_paths::public_command_line(text), "intel_iommu=on isolcpus=2-5");
/// ```
pub fn public_command_line(text: &str) -> String {
    let line = CommandLine::parse(text);
    let public = line.parameters().filter(|(name, _)| is_public(name));
    public.map(|(name, value)| written(name, value)).collect::<Vec<_>>().join(" ")
}

fn is_public(name: &str) -> bool {
    let is_listed = |listed: &&str| match listed.strip_suffix('.') {
        Some(module) => name.strip_prefix(module).is_some_and(|rest| rest.starts_with('.')),
        None => name.eq_ignore_ascii_case(listed),
    };
    // Text in quotes can be a name with white space.
    let is_name = !name.contains(|character: char| !character.is_ascii_graphic());
    is_name && (doctor::judges_boot_option(name) || PUBLIC.iter().any(is_listed))
}

/// A parameter as [`CommandLine::parse`] reads it: white space is part of a value only within double quotes.
fn written(name: &str, value: &str) -> String {
    if value.is_empty() {
        name.to_owned()
    } else if value.contains(char::is_whitespace) {
        format!("{name}=\"{value}\"")
    } else {
        format!("{name}={value}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn omits_secrets_addresses_and_names_of_the_host() {
        let text = "BOOT_IMAGE=(hd0,gpt2)/vmlinuz root=UUID=1234 iscsi_password=hunter2 systemd.set_credential=login:hunter2 \
                    inst.ks=http://user:hunter2@192.0.2.7/ks rd.iscsi.password=hunter2 BOOTIF=01-02-00-00-c0-ff-ee ifname=eth0:02:00:00:c0:ff:ee \
                    ip=192.0.2.7::192.0.2.1 nameserver=192.0.2.53 netconsole=@192.0.2.7/ cryptdevice=UUID=1234 \
                    iommu=pt pci=nommconf vfio-pci.ids=10de:2901 swiotlb=force hugepages=64 -- hunter2 iommu=off";
        assert_eq!(
            public_command_line(text),
            "iommu=pt pci=nommconf vfio_pci.ids=10de:2901 swiotlb=force hugepages=64"
        );
    }

    #[test]
    fn omits_public_parameters_within_the_value_of_another() {
        assert_eq!(public_command_line("password=\"a iommu=hunter2 b\" quiet"), "");
        assert_eq!(public_command_line("\"hunter2 my_iommu\" iommu=pt"), "iommu=pt");
        assert_eq!(public_command_line("iommu=\"pt hunter=1\" isolcpus=2"), "iommu=\"pt hunter=1\" isolcpus=2");
    }

    #[test]
    fn a_module_is_not_a_prefix_of_other_names() {
        assert_eq!(public_command_line("vfiox.a=1 vfio_secret=1 swiotlbx=1 vfio.a=1 memory_password=1"), "vfio.a=1");
    }

    proptest! {
        #[test]
        fn keeps_the_meaning_of_every_public_parameter(
            text in "((pci|'pci|iommu|intel-iommu|vfio-pci.ids|root|pass\"w|isolcpus)(=[a-z0-9,\" ]{0,8})? ){0,6}.{0,10}"
        ) {
            let (whole, public) = (CommandLine::parse(&text), public_command_line(&text));
            let kept: Vec<_> = whole.parameters().filter(|(name, _)| is_public(name)).collect();
            let again = CommandLine::parse(&public);
            prop_assert_eq!(again.parameters().collect::<Vec<_>>(), kept, "{:?} as {:?}", text, public);
            prop_assert_eq!(public_command_line(&public), public);
        }
    }
}
