"""Many photos: process pool, Ray, object stores."""
