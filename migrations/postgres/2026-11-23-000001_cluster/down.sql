DROP TABLE member, shard_position, asset, cluster;
DROP FUNCTION axs_add_asset, axs_refuse_change;
