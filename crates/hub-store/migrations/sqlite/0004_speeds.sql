-- How fast a model is on this machine: measured, and kept by name, since the built-in model has no row.
CREATE TABLE speeds (
    model TEXT NOT NULL PRIMARY KEY,
    speed TEXT NOT NULL
);
