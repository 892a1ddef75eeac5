"""Small fabrics for the packet tests."""

from dcsim.fabric.graph import from_cables


def star(chips, length_m=0.0):
    """Chips around one switch."""
    return from_cables("star", chips, [(i, chips, "adapter", length_m) for i in range(chips)], vertex_count=chips + 1)


def line(switches, length_m=0.0):
    """Two chips at the ends of a row of switches."""
    cables = [(0, 2, "adapter", length_m), (1, 1 + switches, "adapter", length_m)]
    cables += [(2 + i, 3 + i, "adapter", length_m) for i in range(switches - 1)]
    return from_cables("line", 2, cables, vertex_count=2 + switches)


def fat_tree(radix, kind="adapter"):
    """Three tiers of switches of one radix (Al-Fares, Loukissas, Vahdat 2008): radix^3 / 4 chips."""
    half = radix // 2
    chips = radix * half * half
    aggregation, core = chips + radix * half, chips + 2 * radix * half
    cables = [(i, chips + i // half, kind, 0.0) for i in range(chips)]
    for pod in range(radix):
        for i in range(half):
            for j in range(half):
                cables.append((chips + pod * half + i, aggregation + pod * half + j, kind, 0.0))
                cables.append((aggregation + pod * half + i, core + i * half + j, kind, 0.0))
    return from_cables("fat_tree", chips, cables, vertex_count=core + half * half)


def dragonfly(p, a, h):
    """Canonical dragonfly: p chips a router, a routers a group, h global links a router, a h + 1 groups."""
    groups = a * h + 1
    chips = groups * a * p
    cables = [(i, chips + i // p, "adapter", 0.0) for i in range(chips)]
    for group in range(groups):
        first = chips + group * a
        cables += [(first + i, first + j, "local", 0.0) for i in range(a) for j in range(i + 1, a)]
        for port in range(a * h):
            other = (group + port + 1) % groups
            if other > group:
                back = groups - 2 - port
                cables.append((first + port // h, chips + other * a + back // h, "global", 0.0))
    group_of = [i // (a * p) for i in range(chips)] + [r // a for r in range(groups * a)]
    return from_cables("dragonfly", chips, cables, vertex_count=chips + groups * a, group_of=group_of)
