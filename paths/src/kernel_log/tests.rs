use super::*;

#[test]
fn only_the_messages_about_blocked_accesses_report_one() {
    for (line, function) in [
        (
            "DMAR: [DMA Write NO_PASID] Request device [0000:08:00.0] fault addr 0x1000 [fault reason 0x05] PTE Write access is not set",
            Some("0000:08:00.0"),
        ),
        (
            "ivhd 0000:00:00.2: AMD-Vi: Event logged [INVALID_DEVICE_REQUEST device=0000:03:00.0 pasid=0]",
            Some("0000:03:00.0"),
        ),
        ("arm-smmu-v3 arm-smmu-v3.0.auto: event 0x10 received:", None),
    ] {
        let last = blocked_access(line).unwrap().functions.last().map(Bdf::to_string);
        assert_eq!(last.as_deref(), function, "{line}");
    }
    for line in [
        "DMAR: DRHD: handling fault status reg 2",
        "DMAR: IOMMU enabled",
        "AMD-Vi: Interrupt remapping enabled",
        "dmar_fault: 4417 callbacks suppressed",
        "vfio-pci 0000:01:00.0: reset done",
    ] {
        assert!(explain(line).is_some() && blocked_access(line).is_none(), "{line}");
    }
}
