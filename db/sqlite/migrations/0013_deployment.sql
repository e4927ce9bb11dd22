-- +goose Up

-- The deployment that the file belongs to. history is the text that the serving
-- process last recorded; it is also in the file beside this one. Another value or
-- fewer cutoffs mean that this file is an older copy. It is null until a process has
-- served from the file.
create table deployment (
    one     integer not null primary key default 1 check (one = 1),
    id      text not null,
    history text
) strict;
insert into deployment (id)
select substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-4' || substr(h, 14, 3) || '-8' || substr(h, 18, 3) || '-' || substr(h, 21)
from (select lower(hex(randomblob(16))) as h);
