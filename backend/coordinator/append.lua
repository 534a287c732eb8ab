-- Appends a word to the log, under the next number, and trims the log to its bounds.
-- KEYS  1 the log   2 its head      ARGV  1 kind   2 word   3 most entries   4 most bytes of words
local NODE = 100  -- entries that lie together in Valkey: about so many are cheap to cut off
local number = redis.call('HINCRBY', KEYS[2], 'entries', 1)
local bytes = redis.call('HINCRBY', KEYS[2], 'bytes', #ARGV[2])
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'k', ARGV[1], 'n', number, 'b', bytes, 'w', ARGV[2])
if number % NODE ~= 0 then return end
local length = redis.call('XLEN', KEYS[1])
while length > NODE do
  local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][2]
  if bytes - tonumber(oldest[6]) <= tonumber(ARGV[4]) then return end
  length = length - NODE
  redis.call('XTRIM', KEYS[1], 'MAXLEN', length)
end
