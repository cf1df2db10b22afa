"""Other people's interfaces over covey: dask, futures, joblib and the pool."""
