"""The weekly batch: every link once from Sunday to Saturday, within transfer windows, as flat as users' own calls let it be."""
