"""The kernel's rules, read from sources that are reduced to what the reader looks for."""

import tempfile
import unittest
from pathlib import Path

from lab import rules

FILES = {
    "Makefile": "VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\n",
    "drivers/pci/p2pdma.c": """
static bool cpu_supports_p2pdma(void)
{
	return c->x86_vendor == X86_VENDOR_AMD && c->x86 >= 0x17;
}
static int pci_bridge_has_acs_redir(struct pci_dev *pdev)
{
	read(PCI_ACS_CTRL);
	return ctrl & (PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_EC);
}
} pci_p2pdma_whitelist[] = {
	/* {PCI_VENDOR_ID_INTEL, 0x1, 0}, */
	{PCI_VENDOR_ID_INTEL, 0x2f00, REQ_SAME_HOST_BRIDGE},
	{PCI_VENDOR_ID_INTEL, PCI_DEVICE_ID_OF_A_TEST, 0},
	{PCI_VENDOR_ID_GOOGLE, PCI_ANY_ID, 0},
	{}
};
""",
    "include/linux/pci_ids.h": "#define PCI_VENDOR_ID_INTEL\t\t0x8086\n#define PCI_VENDOR_ID_GOOGLE\t0x1ae0\n"
    "#define PCI_DEVICE_ID_OF_A_TEST_2\t0x1\n#define PCI_DEVICE_ID_OF_A_TEST\t0x0b25\n",
    "kernel/dma/swiotlb.c": """
setup_io_tlb_npages(char *str)
{
	if (!strncmp(str, "force", 5)) {
	} else if (!strncmp(str, "noforce", 7)) {
	}
}
""",
    "kernel/dma/direct.c": """
dma_addr_t dma_direct_map_phys(struct device *dev)
{
	if (is_swiotlb_force_bounce(dev)) {
		if (attrs & DMA_ATTR_MMIO)
			return DMA_MAPPING_ERROR;
	}
	dma_addr = phys_to_dma_encrypted(dev, phys);
	if (attrs & DMA_ATTR_MMIO) {
	}
}
""",
    "include/linux/dma-direct.h": """
static inline bool dma_capable(struct device *dev)
{
	return !force_dma_unencrypted(dev);
}
""",
    "drivers/dma-buf/dma-buf-mapping.c": """
struct sg_table *dma_buf_phys_vec_to_sgt(struct dma_buf_attachment *attach)
{
	ret = dma_iova_link(attach->dev, dma->state,
			    phys_vec[i].paddr, 0,
			    phys_vec[i].len);
}
""",
    "drivers/vfio/Kconfig": "\tselect IOMMUFD_NOIOMMU if VFIO_DEVICE_CDEV\n",
    "include/trace/events/dma_buf.h": "DEFINE_EVENT(dma_buf_attach_dev, dma_buf_dynamic_attach,\n",
    "drivers/infiniband/hw/alpha/main.c": ".reg_user_mr_dmabuf = a;\nib_umem_dmabuf_get(x);\nib_umem_dmabuf_get_pinned(x);\n",
    "drivers/infiniband/hw/beta/main.c": ".reg_user_mr_dmabuf = b;\nib_umem_dmabuf_get_pinned_revocable_and_lock(x);\n",
    "drivers/infiniband/hw/gamma/main.c": ".reg_user_mr_dmabuf = c;\nib_umem_dmabuf_get_pinned(x);\n",
    "drivers/infiniband/hw/delta/main.c": ".reg_user_mr = d;\n",
}

TABLES = {
    "newest": "7.3",
    "listed_devices": [
        {"vendor": 0x8086, "device": 0x2F00, "same_host_bridge": True, "since": "5.4"},
        {"vendor": 0x8086, "device": 0x0B25, "same_host_bridge": False, "since": "7.2"},
        {"vendor": 0x1AE0, "device": None, "same_host_bridge": False, "since": "7.1"},
        {"vendor": 0x10DE, "device": 0x1, "same_host_bridge": False, "since": "7.4"},
    ],
    "rules": [
        {"since": "7.0"},
        {
            "since": "7.3",
            "swiotlb_words": "prefix",
            "encrypted_mmio": "not-capable",
            "mmio_translates_inbound": True,
            "multi_range_defect": True,
            "noiommu_cdev": True,
            "attach_event": True,
        },
        {"since": "7.4"},
    ],
    "rdma_drivers": [
        {"name": "alpha", "support": "dynamic"},
        {"name": "beta", "support": "pinned-revocable"},
        {"name": "gamma", "support": "pinned-forever"},
        {"name": "delta", "support": "none"},
    ],
}


class Rules(unittest.TestCase):
    def differences(self, changed: dict[str, tuple[str, str]]) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in FILES.items():
                if name in changed:
                    self.assertIn(changed[name][0], text)
                    text = text.replace(*changed[name])
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return rules.differences(rules.Tree(Path(folder)), TABLES)

    def test_equal_rules_have_no_differences(self):
        self.assertEqual(self.differences({}), [])

    def test_reports_every_changed_rule(self):
        changes = {
            "drivers/pci/p2pdma.c": ("PCI_ACS_EC", "PCI_ACS_SV", "ACS redirect bits"),
            "kernel/dma/swiotlb.c": ("strncmp", "strncasecmp", "swiotlb_words: cannot read"),
            "kernel/dma/direct.c": (
                "dma_addr = phys_to_dma_encrypted(dev, phys);\n\tif (attrs & DMA_ATTR_MMIO) {",
                "if (attrs & DMA_ATTR_MMIO) {\n\tdma_addr = phys;",
                "mmio_translates_inbound",
            ),
            "include/linux/dma-direct.h": ("force_dma_unencrypted", "nothing", "encrypted_mmio"),
            "drivers/dma-buf/dma-buf-mapping.c": ("paddr, 0", "paddr, mapped_len", "multi_range_defect"),
            "drivers/vfio/Kconfig": ("IOMMUFD_NOIOMMU", "IOMMUFD", "noiommu_cdev"),
            "include/trace/events/dma_buf.h": ("dynamic_attach", "attach", "attach_event"),
            "drivers/infiniband/hw/delta/main.c": ("reg_user_mr", "reg_user_mr_dmabuf", "rdma_drivers: delta"),
        }
        for name, (before, after, expected) in changes.items():
            with self.subTest(name):
                found = self.differences({name: (before, after)})
                self.assertEqual(len(found), 1, found)
                self.assertIn(expected, found[0])

    def test_reports_devices_that_one_side_lacks(self):
        found = self.differences({"drivers/pci/p2pdma.c": ("INTEL, 0x2f00", "INTEL, 0x2f01")})
        self.assertEqual(
            found,
            [
                "allowlist: the table lacks 8086:2f01 (same host bridge)",
                "allowlist: the source lacks 8086:2f00 (same host bridge)",
            ],
        )

    def test_an_unknown_form_is_a_difference(self):
        for before, after in [("whitelist[]", "allowlist[]"), ("0x2f00, REQ", "0x2f00, NEW_FLAG, REQ")]:
            found = self.differences({"drivers/pci/p2pdma.c": (before, after)})
            self.assertIn("cannot read the source", found[0])


if __name__ == "__main__":
    unittest.main()
