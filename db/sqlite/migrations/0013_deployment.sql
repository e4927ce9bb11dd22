-- +goose Up

-- Which deployment the file belongs to. History is what the serving process has
-- last vouched for, as it stands in the file beside this one; another value, or a
-- cutoff less, says that this file is an older copy. It is null as long as no
-- process has served from it.
create table deployment (
    one     integer not null primary key default 1 check (one = 1),
    id      text not null,
    history text
) strict;
insert into deployment (id)
select substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-4' || substr(h, 14, 3) || '-8' || substr(h, 18, 3) || '-' || substr(h, 21)
from (select lower(hex(randomblob(16))) as h);
