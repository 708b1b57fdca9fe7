/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory regions of soft-RoCE that are backed by a dma-buf.
 */

#ifndef RXE_DMABUF_H
#define RXE_DMABUF_H

#if IS_ENABLED(CONFIG_INFINIBAND_USER_MEM)
struct ib_mr *rxe_reg_user_mr_dmabuf(struct ib_pd *ibpd, u64 offset,
				     u64 length, u64 iova, int fd, int access,
				     struct ib_dmah *dmah,
				     struct uverbs_attr_bundle *attrs);
#else
#define rxe_reg_user_mr_dmabuf	NULL
#endif

static inline bool is_dmabuf_mr(struct rxe_mr *mr)
{
	return IS_ENABLED(CONFIG_INFINIBAND_USER_MEM) && mr->dmabuf;
}

/*
 * Only called after is_dmabuf_mr(), so the calls are optimized out with the object
 * file where user memory is not supported.
 */
int rxe_dmabuf_copy(struct rxe_mr *mr, u64 iova, void *addr,
		    unsigned int length, enum rxe_mr_copy_dir dir);
enum resp_states rxe_dmabuf_atomic_op(struct rxe_mr *mr, u64 iova, int opcode,
				      u64 compare, u64 swap_add, u64 *orig_val);
enum resp_states rxe_dmabuf_atomic_write(struct rxe_mr *mr, u64 iova,
					 u64 value);
void rxe_dmabuf_release(struct rxe_mr *mr);

#endif /* RXE_DMABUF_H */
