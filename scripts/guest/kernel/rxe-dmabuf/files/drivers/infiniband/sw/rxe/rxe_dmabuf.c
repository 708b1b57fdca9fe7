// SPDX-License-Identifier: GPL-2.0
/*
 * Memory regions of soft-RoCE that are backed by a dma-buf.
 *
 * rxe has no DMA engine: the CPU moves the data. It runs on a network device,
 * and in a hardware RDMA NIC the importer would be the PCI function of that
 * device. So the dma-buf is attached and mapped for that function, and the
 * exporter, p2pdma, the IOMMU and the DMA API decide as they would for a NIC.
 * Then the CPU maps the same memory for itself:
 *
 *  - an exporter with page-backed memory provides a kernel mapping by vmap;
 *  - otherwise the buffer is MMIO, and the DMA addresses are resolved back to
 *    physical ones and mapped with ioremap().
 *
 * Locking, from the outside in:
 *
 *   exporter's own locks > dma_resv of the dma-buf > rxe_dmabuf::lock
 *
 * Everything that maps or unmaps runs under dma_resv. The data path never takes
 * dma_resv: it runs in the rxe workqueue and holds rxe_dmabuf::lock for reading
 * around each copy, which never faults or waits for anything else. Revocation
 * takes it for writing only to clear rxe_dmabuf::live; after that no reader
 * uses the mapping, and it may be unmapped.
 */

#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/ioport.h>
#include <linux/iosys-map.h>
#include <linux/netdevice.h>
#include <linux/notifier.h>
#include <linux/overflow.h>
#include <linux/pci.h>
#include <linux/rwsem.h>

#include "rxe.h"

MODULE_IMPORT_NS("DMA_BUF");

#define RXE_DMABUF_ACCESS	(RXE_ACCESS_REMOTE | IB_ACCESS_LOCAL_WRITE | \
				 IB_ACCESS_OPTIONAL)

/* A part of the MR behind one contiguous mapping of the CPU */
struct rxe_dmabuf_window {
	u64			offset;		/* from the start of the MR */
	u64			length;
	struct iosys_map	map;
};

struct rxe_dmabuf {
	struct rxe_mr			*mr;
	struct dma_buf			*dmabuf;
	u64				offset;	/* of the MR in the dma-buf */
	struct pci_dev			*pdev;	/* the importer */
	struct notifier_block		unbind_nb;
	struct dma_buf_attachment	*attach;

	/* Under the dma-buf's dma_resv */
	bool				unbound;
	bool				pinned;
	struct sg_table			*sgt;
	struct iosys_map		vmap;

	/* Read by the data path under lock, if live */
	struct rw_semaphore		lock;
	bool				live;
	unsigned int			nr_windows;
	unsigned int			max_windows;
	struct rxe_dmabuf_window	*windows;
};

/* The data path */

static struct rxe_dmabuf_window *rxe_dmabuf_find(struct rxe_dmabuf *rdb,
						 u64 pos)
{
	unsigned int low = 0, high = rdb->nr_windows;

	while (high - low > 1) {
		unsigned int mid = low + (high - low) / 2;

		if (rdb->windows[mid].offset <= pos)
			low = mid;
		else
			high = mid;
	}

	return &rdb->windows[low];
}

static void rxe_dmabuf_move(struct rxe_dmabuf *rdb, u64 pos, void *addr,
			    size_t length, enum rxe_mr_copy_dir dir)
{
	struct rxe_dmabuf_window *window = rxe_dmabuf_find(rdb, pos);

	for (; length; window++) {
		size_t skip = pos - window->offset;
		size_t bytes = min_t(u64, length, window->length - skip);

		if (dir == RXE_TO_MR_OBJ)
			iosys_map_memcpy_to(&window->map, skip, addr, bytes);
		else
			iosys_map_memcpy_from(addr, &window->map, skip, bytes);

		pos += bytes;
		addr += bytes;
		length -= bytes;
	}
}

/* The caller has checked that the range lies within the MR */
int rxe_dmabuf_copy(struct rxe_mr *mr, u64 iova, void *addr,
		    unsigned int length, enum rxe_mr_copy_dir dir)
{
	struct rxe_dmabuf *rdb = mr->dmabuf;
	int err = 0;

	down_read(&rdb->lock);
	if (rdb->live) {
		rxe_dmabuf_move(rdb, iova - mr->ibmr.iova, addr, length, dir);
		if (dir == RXE_TO_MR_OBJ)
			wmb();	/* the bytes first, then their completion */
	} else {
		err = -EFAULT;
	}
	up_read(&rdb->lock);

	return err;
}

/*
 * Find the aligned 8 bytes at an address. Called with the lock held; windows
 * begin and end on page boundaries or with the MR, so a word never straddles.
 */
static enum resp_states rxe_dmabuf_word(struct rxe_mr *mr, u64 iova,
					struct iosys_map *word)
{
	struct rxe_dmabuf *rdb = mr->dmabuf;
	struct rxe_dmabuf_window *window;
	u64 pos = iova - mr->ibmr.iova;

	if (!rdb->live || mr_check_range(mr, iova, sizeof(u64)))
		return RESPST_ERR_RKEY_VIOLATION;

	window = rxe_dmabuf_find(rdb, pos);
	pos -= window->offset;
	*word = IOSYS_MAP_INIT_OFFSET(&window->map, pos);

	if (!IS_ALIGNED((uintptr_t)word->vaddr, sizeof(u64)))
		return RESPST_ERR_MISALIGNED_ATOMIC;

	return RESPST_NONE;
}

enum resp_states rxe_dmabuf_atomic_op(struct rxe_mr *mr, u64 iova, int opcode,
				      u64 compare, u64 swap_add, u64 *orig_val)
{
	struct rxe_dmabuf *rdb = mr->dmabuf;
	struct iosys_map word;
	enum resp_states state;
	u64 value;

	down_read(&rdb->lock);

	state = rxe_dmabuf_word(mr, iova, &word);
	if (state != RESPST_NONE)
		goto out;

	/*
	 * The CPU has no atomic read-modify-write on MMIO; a load and a store
	 * would only appear atomic.
	 */
	if (word.is_iomem) {
		rxe_dbg_mr(mr, "atomics are not possible on device memory\n");
		state = RESPST_ERR_RKEY_VIOLATION;
		goto out;
	}

	spin_lock_bh(&atomic_ops_lock);
	value = *(u64 *)word.vaddr;
	*orig_val = value;

	if (opcode != IB_OPCODE_RC_COMPARE_SWAP)
		*(u64 *)word.vaddr = value + swap_add;
	else if (value == compare)
		*(u64 *)word.vaddr = swap_add;
	spin_unlock_bh(&atomic_ops_lock);

out:
	up_read(&rdb->lock);
	return state;
}

enum resp_states rxe_dmabuf_atomic_write(struct rxe_mr *mr, u64 iova, u64 value)
{
	struct rxe_dmabuf *rdb = mr->dmabuf;
	struct iosys_map word;
	enum resp_states state;

	down_read(&rdb->lock);

	state = rxe_dmabuf_word(mr, iova, &word);
	if (state != RESPST_NONE)
		goto out;

	/* The eight bytes arrive as one store; memcpy_toio() may split them */
	if (word.is_iomem) {
		wmb();	/* after all prior operations */
		__raw_writeq(value, word.vaddr_iomem);
		wmb();	/* and before the completion */
	} else {
		/* after all prior operations */
		smp_store_release((u64 *)word.vaddr, value);
	}

out:
	up_read(&rdb->lock);
	return state;
}

/* Mapping for the CPU */

static int rxe_dmabuf_add_window(struct rxe_dmabuf *rdb, u64 length,
				 const struct iosys_map *map)
{
	struct rxe_dmabuf_window *windows = rdb->windows;
	struct rxe_dmabuf_window *last;
	u64 offset = 0;

	if (rdb->nr_windows == rdb->max_windows) {
		unsigned int max = max(2 * rdb->max_windows, 1U);

		windows = kvrealloc(windows, array_size(max, sizeof(*windows)),
				    GFP_KERNEL);
		if (!windows)
			return -ENOMEM;

		rdb->windows = windows;
		rdb->max_windows = max;
	}

	if (rdb->nr_windows) {
		last = &windows[rdb->nr_windows - 1];
		offset = last->offset + last->length;
	}

	windows[rdb->nr_windows++] = (struct rxe_dmabuf_window) {
		.offset = offset,
		.length = length,
		.map = *map,
	};

	return 0;
}

/*
 * RDMA has no point at which a bounce buffer or a cache could be synchronized,
 * and unmapping a bounce buffer may copy old bytes over bytes that the CPU
 * stored in the meantime. So only coherent mappings are accepted, which need
 * no dma_buf_begin_cpu_access().
 */
static bool rxe_dmabuf_needs_sync(struct rxe_dmabuf *rdb)
{
	struct scatterlist *sg;
	int i;

	for_each_sgtable_dma_sg(rdb->sgt, sg, i)
		if (dma_need_sync(&rdb->pdev->dev, sg_dma_address(sg)))
			return true;

	return false;
}

static int rxe_dmabuf_open_pages(struct rxe_dmabuf *rdb)
{
	struct iosys_map map;
	int err;

	if (rxe_dmabuf_needs_sync(rdb)) {
		rxe_dbg_mr(rdb->mr, "dma-buf is not mapped coherently\n");
		return -EOPNOTSUPP;
	}

	err = dma_buf_vmap(rdb->dmabuf, &rdb->vmap);
	if (err)
		return err;

	map = IOSYS_MAP_INIT_OFFSET(&rdb->vmap, rdb->offset);

	return rxe_dmabuf_add_window(rdb, rdb->mr->ibmr.length, &map);
}

/*
 * Resolve a DMA address of the function to a physical address of the CPU. The
 * DMA API never allocates IOVAs in the windows of the host bridge, so an
 * address that is not mapped in the domain is a bus address: peer-to-peer
 * traffic that does not reach the IOMMU.
 */
static int rxe_dmabuf_resolve(struct rxe_dmabuf *rdb, dma_addr_t dma,
			      phys_addr_t *phys)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(&rdb->pdev->dev);
	struct pci_bus_region region = { .start = dma, .end = dma };
	struct resource bar = { .flags = IORESOURCE_MEM };

	pcibios_bus_to_resource(rdb->pdev->bus, &bar, &region);

	*phys = domain ? iommu_iova_to_phys(domain, dma) : dma;
	if (!*phys)
		*phys = bar.start;

	/*
	 * Untranslated, behind a host bridge with an address offset: this is
	 * either a physical address or a bus address, and the two differ.
	 */
	if (*phys == dma && bar.start != dma) {
		rxe_dbg_mr(rdb->mr, "DMA address %pad is ambiguous\n", &dma);
		return -EOPNOTSUPP;
	}

	return 0;
}

static int rxe_dmabuf_add_mmio(struct rxe_dmabuf *rdb, phys_addr_t phys,
			       u64 length)
{
	struct iosys_map map;
	void __iomem *base;
	int err;

	/* Never alias RAM that the exporter does not vmap */
	if (region_intersects(phys, length, IORESOURCE_SYSTEM_RAM,
			      IORES_DESC_NONE) != REGION_DISJOINT) {
		rxe_dbg_mr(rdb->mr, "dma-buf is RAM without a vmap operation\n");
		return -EOPNOTSUPP;
	}

	/* Not write-combining: accesses to the BAR may have side effects */
	base = ioremap(phys, length);
	if (!base)
		return -ENOMEM;

	iosys_map_set_vaddr_iomem(&map, base);
	err = rxe_dmabuf_add_window(rdb, length, &map);
	if (err)
		iounmap(base);

	return err;
}

/* A run of physically contiguous pages that is still being extended */
struct rxe_dmabuf_run {
	phys_addr_t	phys;
	u64		length;
};

static int rxe_dmabuf_flush_run(struct rxe_dmabuf *rdb,
				struct rxe_dmabuf_run *run)
{
	int err;

	if (!run->length)
		return 0;

	err = rxe_dmabuf_add_mmio(rdb, run->phys, run->length);
	run->length = 0;

	return err;
}

/* One IOVA span may lead to many places, hence page by page */
static int rxe_dmabuf_add_span(struct rxe_dmabuf *rdb,
			       struct rxe_dmabuf_run *run, dma_addr_t dma,
			       u64 length)
{
	while (length) {
		u64 bytes = min_t(u64, length,
				  PAGE_SIZE - (dma & ~PAGE_MASK));
		phys_addr_t phys;
		int err;

		err = rxe_dmabuf_resolve(rdb, dma, &phys);
		if (err)
			return err;

		if (run->length && run->phys + run->length != phys) {
			err = rxe_dmabuf_flush_run(rdb, run);
			if (err)
				return err;
		}

		if (!run->length)
			run->phys = phys;
		run->length += bytes;

		dma += bytes;
		length -= bytes;
		cond_resched();
	}

	return 0;
}

static int rxe_dmabuf_open_mmio(struct rxe_dmabuf *rdb)
{
	u64 start = rdb->offset, end = start + rdb->mr->ibmr.length;
	struct rxe_dmabuf_run run = {};
	struct scatterlist *sg;
	u64 pos = 0;
	int err;
	int i;

	for_each_sgtable_dma_sg(rdb->sgt, sg, i) {
		u64 next = pos + sg_dma_len(sg);
		u64 from = max(pos, start), to = min(next, end);

		if (from < to) {
			err = rxe_dmabuf_add_span(rdb, &run,
						  sg_dma_address(sg) +
						  (from - pos), to - from);
			if (err)
				return err;
		}
		pos = next;
	}

	/* The exporter mapped less than the size of the dma-buf */
	if (pos < end)
		return -EINVAL;

	return rxe_dmabuf_flush_run(rdb, &run);
}

static void rxe_dmabuf_close_windows(struct rxe_dmabuf *rdb)
{
	if (iosys_map_is_set(&rdb->vmap)) {
		dma_buf_vunmap(rdb->dmabuf, &rdb->vmap);
		iosys_map_clear(&rdb->vmap);
	} else {
		while (rdb->nr_windows--)
			iounmap(rdb->windows[rdb->nr_windows].map.vaddr_iomem);
	}

	kvfree(rdb->windows);
	rdb->windows = NULL;
	rdb->nr_windows = 0;
	rdb->max_windows = 0;
}

/* Mapping and unmapping for the device */

static void rxe_dmabuf_set_live(struct rxe_dmabuf *rdb, bool live)
{
	WRITE_ONCE(rdb->mr->state,
		   live ? RXE_MR_STATE_VALID : RXE_MR_STATE_INVALID);

	down_write(&rdb->lock);
	rdb->live = live;
	up_write(&rdb->lock);
}

/*
 * Undo rxe_dmabuf_map_locked(), also after a partial failure. This is final:
 * the MR keeps its key but never becomes valid again.
 */
static void rxe_dmabuf_unmap_locked(struct rxe_dmabuf *rdb)
{
	rxe_dmabuf_set_live(rdb, false);
	rxe_dmabuf_close_windows(rdb);

	if (rdb->sgt) {
		dma_buf_unmap_attachment(rdb->attach, rdb->sgt,
					 DMA_BIDIRECTIONAL);
		rdb->sgt = NULL;
	}

	if (rdb->pinned) {
		dma_buf_unpin(rdb->attach);
		rdb->pinned = false;
	}
}

static int rxe_dmabuf_map_locked(struct rxe_dmabuf *rdb)
{
	struct sg_table *sgt;
	long left;
	int err;

	if (rdb->unbound)
		return -ENODEV;

	/* The CPU cannot fault the buffer back in, so pin it */
	err = dma_buf_pin(rdb->attach);
	if (err)
		return err;
	rdb->pinned = true;

	sgt = dma_buf_map_attachment(rdb->attach, DMA_BIDIRECTIONAL);
	if (IS_ERR(sgt))
		return PTR_ERR(sgt);
	rdb->sgt = sgt;

	/* The exporter may still be moving the contents here */
	left = dma_resv_wait_timeout(rdb->dmabuf->resv, DMA_RESV_USAGE_KERNEL,
				     false, MAX_SCHEDULE_TIMEOUT);
	if (left <= 0)
		return left ?: -ETIMEDOUT;

	if (rdb->dmabuf->ops->vmap)
		err = rxe_dmabuf_open_pages(rdb);
	else
		err = rxe_dmabuf_open_mmio(rdb);
	if (err)
		return err;

	rxe_dmabuf_set_live(rdb, true);
	return 0;
}

static int rxe_dmabuf_map(struct rxe_dmabuf *rdb)
{
	int err;

	dma_resv_lock(rdb->dmabuf->resv, NULL);
	err = rxe_dmabuf_map_locked(rdb);
	if (err)
		rxe_dmabuf_unmap_locked(rdb);
	dma_resv_unlock(rdb->dmabuf->resv);

	return err;
}

/*
 * The exporter revokes its memory and waits for the unmap without a timeout, so
 * unmap here. VFIO also calls this when the memory is available again, and it
 * may be called before the MR is mapped: both are no-ops.
 */
static void rxe_dmabuf_invalidate_mappings(struct dma_buf_attachment *attach)
{
	struct rxe_dmabuf *rdb = attach->importer_priv;

	dma_resv_assert_held(attach->dmabuf->resv);
	rxe_dmabuf_unmap_locked(rdb);
}

static const struct dma_buf_attach_ops rxe_dmabuf_attach_ops = {
	.allow_peer2peer = true,
	.invalidate_mappings = rxe_dmabuf_invalidate_mappings,
};

/*
 * A DMA mapping must not outlive the binding of the function's driver. A NIC's
 * RDMA driver would be unbound as well and destroy its MRs; rxe is not bound to
 * the function and has to watch for the event.
 *
 * UNBOUND covers a registration that starts after UNBIND: it holds a reference
 * to the netdev, which delays the end of the driver's removal.
 */
static int rxe_dmabuf_bus_event(struct notifier_block *nb, unsigned long event,
				void *data)
{
	struct rxe_dmabuf *rdb = container_of(nb, struct rxe_dmabuf, unbind_nb);

	if (data != &rdb->pdev->dev ||
	    (event != BUS_NOTIFY_UNBIND_DRIVER &&
	     event != BUS_NOTIFY_UNBOUND_DRIVER))
		return NOTIFY_DONE;

	dma_resv_lock(rdb->dmabuf->resv, NULL);
	rdb->unbound = true;
	rxe_dmabuf_unmap_locked(rdb);
	dma_resv_unlock(rdb->dmabuf->resv);

	return NOTIFY_OK;
}

/* Registration */

static struct pci_dev *rxe_dmabuf_pci_function(struct net_device *ndev)
{
	struct device *dev;

	for (dev = ndev->dev.parent; dev; dev = dev->parent)
		if (dev_is_pci(dev))
			return to_pci_dev(dev);

	return NULL;
}

static int rxe_dmabuf_attach(struct rxe_dmabuf *rdb)
{
	struct dma_buf_attachment *attach;

	attach = dma_buf_dynamic_attach(rdb->dmabuf, &rdb->pdev->dev,
					&rxe_dmabuf_attach_ops, rdb);
	if (IS_ERR(attach))
		return PTR_ERR(attach);
	rdb->attach = attach;

	return rxe_dmabuf_map(rdb);
}

/* Also undoes a registration that failed half-way */
void rxe_dmabuf_release(struct rxe_mr *mr)
{
	struct rxe_dmabuf *rdb = mr->dmabuf;
	struct dma_buf *dmabuf = rdb->dmabuf;

	bus_unregister_notifier(&pci_bus_type, &rdb->unbind_nb);

	if (rdb->attach) {
		dma_resv_lock(dmabuf->resv, NULL);
		rxe_dmabuf_unmap_locked(rdb);
		dma_resv_unlock(dmabuf->resv);
		dma_buf_detach(dmabuf, rdb->attach);
	}

	dma_buf_put(dmabuf);
	pci_dev_put(rdb->pdev);
	kfree(rdb);
	mr->dmabuf = NULL;
}

static bool rxe_dmabuf_range_ok(struct dma_buf *dmabuf, u64 offset, u64 length,
				u64 iova)
{
	u64 end, iova_end;

	return length && !check_add_overflow(offset, length, &end) &&
	       end <= dmabuf->size &&
	       !check_add_overflow(iova, length, &iova_end);
}

/* On success the dma-buf belongs to the MR, to be released with it */
static int rxe_dmabuf_init(struct rxe_mr *mr, struct dma_buf *dmabuf,
			   u64 offset, struct net_device *ndev)
{
	struct pci_dev *pdev = rxe_dmabuf_pci_function(ndev);
	struct rxe_dmabuf *rdb;
	int err;

	if (!pdev) {
		rxe_dbg_mr(mr, "no PCI function under the network device\n");
		return -ENODEV;
	}

	rdb = kzalloc_obj(*rdb);
	if (!rdb)
		return -ENOMEM;

	rdb->mr = mr;
	rdb->dmabuf = dmabuf;
	rdb->offset = offset;
	init_rwsem(&rdb->lock);

	rdb->pdev = pdev;
	rdb->unbind_nb.notifier_call = rxe_dmabuf_bus_event;
	err = bus_register_notifier(&pci_bus_type, &rdb->unbind_nb);
	if (err) {
		kfree(rdb);
		return err;
	}

	pci_dev_get(pdev);
	mr->dmabuf = rdb;
	return 0;
}

static int rxe_mr_init_dmabuf(struct rxe_dev *rxe, struct rxe_mr *mr,
			      u64 offset, int fd)
{
	struct net_device *ndev;
	struct dma_buf *dmabuf;
	int err;

	dmabuf = dma_buf_get(fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);

	err = -EINVAL;
	if (!rxe_dmabuf_range_ok(dmabuf, offset, mr->ibmr.length,
				 mr->ibmr.iova))
		goto err_put;

	err = -ENODEV;
	ndev = ib_device_get_netdev(&rxe->ib_dev, 1);
	if (!ndev)
		goto err_put;

	err = rxe_dmabuf_init(mr, dmabuf, offset, ndev);
	if (err) {
		dev_put(ndev);
		goto err_put;
	}

	/* From here on the caller's cleanup of the MR releases everything */
	err = rxe_dmabuf_attach(mr->dmabuf);
	dev_put(ndev);

	return err;

err_put:
	dma_buf_put(dmabuf);
	return err;
}

struct ib_mr *rxe_reg_user_mr_dmabuf(struct ib_pd *ibpd, u64 offset,
				     u64 length, u64 iova, int fd, int access,
				     struct ib_dmah *dmah,
				     struct uverbs_attr_bundle *attrs)
{
	struct rxe_dev *rxe = to_rdev(ibpd->device);
	struct rxe_pd *pd = to_rpd(ibpd);
	struct rxe_mr *mr;
	int err, cleanup_err;

	if (dmah || access & ~RXE_DMABUF_ACCESS)
		return ERR_PTR(-EOPNOTSUPP);

	mr = kzalloc_obj(*mr);
	if (!mr)
		return ERR_PTR(-ENOMEM);

	err = rxe_add_to_pool(&rxe->mr_pool, mr);
	if (err)
		goto err_free;

	rxe_get(pd);
	mr->ibmr.pd = ibpd;
	mr->ibmr.device = ibpd->device;

	/* The MR may be revoked before the core gets to fill these in */
	rxe_mr_init(access, mr);
	mr->ibmr.type = IB_MR_TYPE_USER;
	mr->ibmr.iova = iova;
	mr->ibmr.length = length;

	err = rxe_mr_init_dmabuf(rxe, mr, offset, fd);
	if (err) {
		rxe_dbg_mr(mr, "reg_user_mr_dmabuf failed, err = %d\n", err);
		goto err_cleanup;
	}

	rxe_finalize(mr);
	return &mr->ibmr;

err_cleanup:
	cleanup_err = rxe_cleanup(mr);
	if (cleanup_err)
		rxe_err_mr(mr, "cleanup failed, err = %d\n", cleanup_err);
err_free:
	kfree(mr);
	return ERR_PTR(err);
}
