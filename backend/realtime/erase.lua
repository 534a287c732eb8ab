-- Forgets one user's events and tells whoever listens. What stays is a head under a fresh epoch, so that an append that was
-- still on its way meets a gap instead of bringing an old event back.
--
-- KEYS: head, log
-- ARGV: channel, life of the head (ms), fresh epoch

local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[1], 'epoch', ARGV[3], 'top', 0, 'run', run)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PUBLISH', ARGV[1], ARGV[3] .. '\n' .. 0)
return 1
