"""A thousand random arrays, their sums and the total, in five ways.

After "Distributed Prototype" by Matthew Rocklin (2015), whose programs these are.
Changed: the imports, and the address, which is that of a local cluster.  The
numbers of arrays and of their elements are scaled by COVEY_EXAMPLE_SCALE; at full
size the pool holds 8 GB.  A current dask forces three changes, marked where they
stand: ``dask.imperative.do`` is ``dask.delayed`` today, ``compute(get=...)`` is
``compute(scheduler=...)``, and a scheduler function gets more keywords.
Added: the checks.
"""

import math
import os

from covey import CoveyError, LocalCluster, Pool

scale = float(os.environ.get("COVEY_EXAMPLE_SCALE", "1"))
count = max(2, round(1000 * scale))
size = max(10, round(1000000 * scale))

cluster = LocalCluster(host="127.0.0.1")
host, port = cluster.host, cluster.port


def check(total):
    """Not the author's: is this the sum of count * size numbers in [0, 1)?

    Their mean is 1/2 and their variance 1/12, so seven standard deviations
    are passed by chance about once in 10**11 runs.
    """
    numbers = count * size
    assert abs(total - numbers / 2) < 7 * math.sqrt(numbers / 12), total


# Pool

pool = Pool(f"{host}:{port}")

import numpy as np
arrays = pool.map(np.random.random, [size] * count)

print(arrays[0])

sums = pool.map(np.sum, arrays)

total = pool.apply(np.sum, args=(sums,))
print(total.get())  # finally transfer result to local machine

check(total.get())
# The same again, serially, on data that came here.
numbers = [s.get() for s in sums]
assert math.isclose(total.get(), math.fsum(numbers), rel_tol=1e-12)
for i in (0, 1, count - 1):
    array = arrays[i].get()
    assert array.shape == (size,)
    assert np.sum(array) == numbers[i]
assert not np.array_equal(arrays[0].get(), arrays[1].get())

# distributed.dask

dsk = dict()
for i in range(count):
    dsk[('x', i)] = (np.random.random, size)
    dsk[('sum', i)] = (np.sum, ('x', i))

dsk['total'] = (sum, [('sum', i) for i in range(count)])

from covey.dask import get
total = get(host, port, dsk, 'total')
print(total)
check(total)

# dask.imperative

def get2(dsk, keys, **kwargs):  # forced by dask: it hands over more keywords
    """ Make `get` scheduler that hardcodes the IP and Port """
    return get(host, port, dsk, keys)

from dask import delayed as do  # forced by dask: `from dask.imperative import do`
arrays_of_do = [do(np.random.random)(size) for i in range(count)]
sums = [do(np.sum)(x) for x in arrays_of_do]
total = do(np.sum)(sums)

total = total.compute(scheduler=get2)  # forced by dask: it was compute(get=get2)
print(total)
check(total)

# dask.array

import dask.array as da
x = da.random.random(size*count, chunks=(size,))
total = x.sum().compute(scheduler=get2)  # forced by dask, as above
print(total)
check(total)

from covey import delete
delete((host, port), arrays)

try:
    arrays[0].get()
except CoveyError as error:
    print(f"deleted: {type(error).__name__}")
else:
    raise AssertionError("a deleted array was still there")

# Mix and Match

arrays = pool.map(np.random.random, [size] * count)
dsk = {('sum', i): (np.sum, x) for i, x in enumerate(arrays)}
dsk['total'] = (sum, [('sum', i) for i in range(count)])

total = get(host, port, dsk, 'total')
print(total)
check(total)
numbers = [s.get() for s in pool.map(np.sum, arrays)]
assert math.isclose(total, math.fsum(numbers), rel_tol=1e-12)

delete((host, port), arrays)
pool.close()
cluster.close()
print("ok")
