-- oldest code: 0.1.0
-- Files that guests and admins sent (docs/protocol.md, *Files over HTTP*). Their bytes are in the file store.

CREATE TABLE upload (
    name text PRIMARY KEY,                          -- 160 random bits: who knows it may read the file
    node text NOT NULL,                             -- which takes it in; tidies up after a crash
    person_type smallint NOT NULL,                  -- 1 guest, 3 admin
    person_id bigint NOT NULL,
    size bigint NOT NULL,                           -- bytes
    title text NOT NULL,                            -- what its sender calls it
    media_type text,                                -- NULL: it is still arriving, and cannot be read
    thumb_type text,                                -- NULL: it has no thumbnail
    thumb_size bigint,
    created_at bigint NOT NULL DEFAULT now_ms()
);
CREATE INDEX upload_by_person ON upload (person_type, person_id, created_at);
CREATE INDEX upload_arriving ON upload (node) WHERE media_type IS NULL;
